package emulator

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/yandex-cloud/go-genproto/yandex/cloud/endpoint"
	iampb "github.com/yandex-cloud/go-genproto/yandex/cloud/iam/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// iamService is yandex.cloud.iam.v1.IamTokenService:
// https://yandex.cloud/en/docs/iam/api-ref/grpc/IamToken/
type iamService struct {
	iampb.UnimplementedIamTokenServiceServer
	e *Emulator
}

// Create exchanges a JWT or a person's OAuth token for an IAM token.
func (s iamService) Create(ctx context.Context, in *iampb.CreateIamTokenRequest) (*iampb.CreateIamTokenResponse, error) {
	e, c := s.e, callOf(ctx)
	switch id := in.GetIdentity().(type) {
	case *iampb.CreateIamTokenRequest_Jwt:
		account, key, err := e.verifyKeyJWT(id.Jwt)
		if err != nil {
			return nil, status.Error(codes.Unauthenticated, err.Error())
		}
		return created(e.issue(c, account, key)), nil
	case *iampb.CreateIamTokenRequest_YandexPassportOauthToken:
		t, err := e.valid(id.YandexPassportOauthToken, oauthToken)
		if err != nil {
			return nil, status.Error(codes.Unauthenticated, "OAuth token is invalid or expired")
		}
		return created(e.issue(c, t.owner, "")), nil
	}
	return nil, status.Error(codes.InvalidArgument, "the request has neither jwt nor yandex_passport_oauth_token")
}

// CreateForServiceAccount issues a token of another account to who may
// impersonate it.
func (s iamService) CreateForServiceAccount(ctx context.Context, in *iampb.CreateIamTokenForServiceAccountRequest) (*iampb.CreateIamTokenResponse, error) {
	e, c := s.e, callOf(ctx)
	md, _ := metadata.FromIncomingContext(ctx)
	own, err := e.authenticate(strings.Join(md.Get("authorization"), ","), "Bearer", iamToken)
	if err != nil {
		return nil, status.Error(codes.Unauthenticated, err.Error())
	}
	target := in.GetServiceAccountId()
	switch {
	case target == "":
		return nil, status.Error(codes.InvalidArgument, "service_account_id is missing")
	case !e.dir.alive(target):
		return nil, status.Errorf(codes.NotFound, "service account %s not found", cut(target))
	case !e.dir.mayImpersonate(own.owner, target):
		return nil, status.Error(codes.PermissionDenied, "Permission denied")
	}
	return created(e.issue(c, target, "")), nil
}

// Revoke makes a token invalid before its end.
func (s iamService) Revoke(ctx context.Context, in *iampb.RevokeIamTokenRequest) (*iampb.RevokeIamTokenResponse, error) {
	t, err := s.e.valid(in.GetIamToken(), iamToken)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	s.e.tokens.revoke(t.value)
	callOf(ctx).by(t.owner)
	return &iampb.RevokeIamTokenResponse{SubjectId: t.owner}, nil
}

func created(t token) *iampb.CreateIamTokenResponse {
	return &iampb.CreateIamTokenResponse{IamToken: t.value, ExpiresAt: timestamppb.New(t.expires)}
}

// endpointService is yandex.cloud.endpoint.ApiEndpointService:
// https://yandex.cloud/en/docs/api-design-guide/concepts/endpoints
type endpointService struct {
	endpoint.UnimplementedApiEndpointServiceServer
	e *Emulator
}

func (s endpointService) all() []*endpoint.ApiEndpoint {
	return []*endpoint.ApiEndpoint{
		{Id: "endpoint", Address: s.e.endpoints.API},
		{Id: "iam", Address: s.e.endpoints.IAM},
	}
}

// List lists all endpoints.
func (s endpointService) List(context.Context, *endpoint.ListApiEndpointsRequest) (*endpoint.ListApiEndpointsResponse, error) {
	return &endpoint.ListApiEndpointsResponse{Endpoints: s.all()}, nil
}

// Get returns one endpoint.
func (s endpointService) Get(_ context.Context, in *endpoint.GetApiEndpointRequest) (*endpoint.ApiEndpoint, error) {
	for _, p := range s.all() {
		if p.Id == in.GetApiEndpointId() {
			return p, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "endpoint %s not found", cut(in.GetApiEndpointId()))
}

// newGRPC makes a gRPC server that runs inside net/http, which gives it faults
// of the HTTP layer, REST on the same port and Date headers.
func (e *Emulator) newGRPC(register func(*grpc.Server)) *grpc.Server {
	s := grpc.NewServer(grpc.UnaryInterceptor(e.intercept))
	register(s)
	e.grpcs = append(e.grpcs, s)
	return s
}

// intercept sends the Date and does what the service itself is to do wrong.
func (e *Emulator) intercept(ctx context.Context, in any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	c := callOf(ctx)
	_ = grpc.SetHeader(ctx, metadata.Pairs("date", e.now().UTC().Format(http.TimeFormat)))
	if out, err, wrong := c.wrongAnswer(info.FullMethod, e.now()); wrong {
		return out, err
	}
	out, err := next(ctx, in)
	outcome := status.Code(err).String()
	if err != nil {
		outcome += ": " + status.Convert(err).Message()
	}
	c.ended(outcome)
	return out, err
}

// wrongAnswer is the answer when a fault replaces it.
func (c *call) wrongAnswer(fullMethod string, now time.Time) (out any, err error, wrong bool) {
	switch {
	case c.does(KindError):
		return nil, c.fault.grpcStatus().Err(), true
	case c.does(KindGarbage) || c.does(KindEmpty):
		rubbish := c.does(KindGarbage)
		switch fullMethod {
		case iampb.IamTokenService_Create_FullMethodName, iampb.IamTokenService_CreateForServiceAccount_FullMethodName:
			out := &iampb.CreateIamTokenResponse{}
			if rubbish {
				out.IamToken, out.ExpiresAt = "rubbish "+randomText(12)+"\r\n\x00", timestamppb.New(now.Add(12*time.Hour))
			}
			return out, nil, true
		case iampb.IamTokenService_Revoke_FullMethodName:
			return &iampb.RevokeIamTokenResponse{}, nil, true
		case endpoint.ApiEndpointService_List_FullMethodName:
			out := &endpoint.ListApiEndpointsResponse{}
			if rubbish {
				out.Endpoints = []*endpoint.ApiEndpoint{{Id: "iam", Address: "rubbish " + randomText(12)}}
			}
			return out, nil, true
		case endpoint.ApiEndpointService_Get_FullMethodName:
			return &endpoint.ApiEndpoint{}, nil, true
		}
	}
	return nil, nil, false
}

// grpcStatus is the error that a fault of iam or api stands for.
func (f *Fault) grpcStatus() *status.Status {
	code, ok := parseCode(f.Code)
	if !ok {
		code = codeOfHTTP(f.Status)
	}
	message := f.Message
	setDefault(&message, "injected fault: "+code.String())
	s := status.New(code, message)
	if f.RetryAfter > 0 {
		if with, err := s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(f.RetryAfter)}); err == nil {
			s = with
		}
	}
	return s
}

// codeOfHTTP is the gRPC code that the cloud's REST gateway shows as an HTTP
// status; Unavailable for 0.
func codeOfHTTP(httpStatus int) codes.Code {
	switch httpStatus {
	case http.StatusBadRequest:
		return codes.InvalidArgument
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound:
		return codes.NotFound
	case http.StatusConflict:
		return codes.AlreadyExists
	case http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case http.StatusInternalServerError:
		return codes.Internal
	case http.StatusNotImplemented:
		return codes.Unimplemented
	case http.StatusGatewayTimeout:
		return codes.DeadlineExceeded
	case 0, http.StatusBadGateway, http.StatusServiceUnavailable:
		return codes.Unavailable
	}
	return codes.Unknown
}

// httpOfCode is the reverse of codeOfHTTP:
// https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
func httpOfCode(c codes.Code) int {
	switch c {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange:
		return http.StatusBadRequest
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.NotFound:
		return http.StatusNotFound
	case codes.AlreadyExists, codes.Aborted:
		return http.StatusConflict
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.Canceled:
		return 499
	case codes.Unimplemented:
		return http.StatusNotImplemented
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// grpcMethods routes gRPC requests by method, so that faults can be limited to
// one; other requests go to rest.
func (e *Emulator) grpcMethods(service, prefix string, s *grpc.Server, rest http.Handler) http.Handler {
	byPath := map[string]http.HandlerFunc{}
	for _, m := range methods[service] {
		byPath["/"+prefix+"/"+m] = e.method(service, m, s.ServeHTTP)
	}
	other := e.method(service, "other", s.ServeHTTP)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isGRPC(r) {
			rest.ServeHTTP(w, r)
		} else if h := byPath[r.URL.Path]; h != nil {
			h(w, r)
		} else {
			other(w, r)
		}
	})
}

func (e *Emulator) apiHandler() http.Handler {
	service := endpointService{e: e}
	s := e.newGRPC(func(s *grpc.Server) { endpoint.RegisterApiEndpointServiceServer(s, service) })
	rest := http.NewServeMux()
	rest.HandleFunc("GET /endpoints", e.method(ServiceAPI, "List", e.rest(func(r *http.Request) (any, error) {
		type one struct {
			ID      string `json:"id"`
			Address string `json:"address"`
		}
		out := struct {
			Endpoints []one `json:"endpoints"`
		}{}
		for _, p := range service.all() {
			out.Endpoints = append(out.Endpoints, one{p.Id, p.Address})
		}
		return out, nil
	})))
	rest.HandleFunc("/redirected", e.redirected(ServiceAPI))
	rest.HandleFunc("/", e.method(ServiceAPI, "other", e.rest(notFound)))
	return e.grpcMethods(ServiceAPI, endpoint.ApiEndpointService_ServiceDesc.ServiceName, s, rest)
}

func (e *Emulator) iamHandler() http.Handler {
	service := iamService{e: e}
	s := e.newGRPC(func(s *grpc.Server) { iampb.RegisterIamTokenServiceServer(s, service) })
	return e.grpcMethods(ServiceIAM, iampb.IamTokenService_ServiceDesc.ServiceName, s, e.iamREST(service))
}

func notFound(r *http.Request) (any, error) {
	return nil, status.Errorf(codes.NotFound, "there is no %s", cut(r.URL.Path))
}
