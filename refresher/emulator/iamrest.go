package emulator

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	iampb "github.com/yandex-cloud/go-genproto/yandex/cloud/iam/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// restToken is the answer of POST /iam/v1/tokens:
// https://yandex.cloud/en/docs/iam/api-ref/IamToken/create
type restToken struct {
	IAMToken  string `json:"iamToken"`
	ExpiresAt string `json:"expiresAt"`
}

// iamREST serves the same methods as gRPC does.
func (e *Emulator) iamREST(s iamService) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /iam/v1/tokens", e.method(ServiceIAM, "Create", e.rest(func(r *http.Request) (any, error) {
		var in struct {
			JWT   string `json:"jwt"`
			OAuth string `json:"yandexPassportOauthToken"`
		}
		if err := readREST(r, &in); err != nil {
			return nil, err
		}
		request := &iampb.CreateIamTokenRequest{}
		switch {
		case in.JWT != "" && in.OAuth != "":
			return nil, status.Error(codes.InvalidArgument, "the request has both jwt and yandexPassportOauthToken")
		case in.JWT != "":
			request.Identity = &iampb.CreateIamTokenRequest_Jwt{Jwt: in.JWT}
		case in.OAuth != "":
			request.Identity = &iampb.CreateIamTokenRequest_YandexPassportOauthToken{YandexPassportOauthToken: in.OAuth}
		}
		return restCreated(s.Create(r.Context(), request))
	})))
	mux.HandleFunc("POST /iam/v1/tokens:createForServiceAccount", e.method(ServiceIAM, "CreateForServiceAccount", e.rest(func(r *http.Request) (any, error) {
		var in struct {
			ServiceAccountID string `json:"serviceAccountId"`
		}
		if err := readREST(r, &in); err != nil {
			return nil, err
		}
		return restCreated(s.CreateForServiceAccount(withAuthorization(r),
			&iampb.CreateIamTokenForServiceAccountRequest{ServiceAccountId: in.ServiceAccountID}))
	})))
	mux.HandleFunc("POST /iam/v1/tokens:revoke", e.method(ServiceIAM, "Revoke", e.rest(func(r *http.Request) (any, error) {
		var in struct {
			IAMToken string `json:"iamToken"`
		}
		if err := readREST(r, &in); err != nil {
			return nil, err
		}
		out, err := s.Revoke(r.Context(), &iampb.RevokeIamTokenRequest{IamToken: in.IAMToken})
		if err != nil {
			return nil, err
		}
		return map[string]string{"subjectId": out.SubjectId}, nil
	})))
	mux.HandleFunc("/redirected", e.redirected(ServiceIAM))
	mux.HandleFunc("/", e.method(ServiceIAM, "other", e.rest(notFound)))
	return mux
}

// withAuthorization passes the header on where gRPC has it.
func withAuthorization(r *http.Request) context.Context {
	return metadata.NewIncomingContext(r.Context(), metadata.Pairs("authorization", r.Header.Get("Authorization")))
}

func restCreated(t *iampb.CreateIamTokenResponse, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return restToken{t.IamToken, t.ExpiresAt.AsTime().Format(time.RFC3339Nano)}, nil
}

func readREST(r *http.Request, into any) error {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		return status.Error(codes.InvalidArgument, "the request body is not the JSON object that is wanted")
	}
	return nil
}

// rest makes a handler of a method that answers with gRPC errors, in the
// gateway's JSON.
func (e *Emulator) rest(answer func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := callOf(r.Context())
		var out any
		var err error
		httpStatus := 0
		if c.does(KindError) {
			err, httpStatus = c.fault.grpcStatus().Err(), c.fault.Status
		} else {
			out, err = answer(r)
		}
		if err == nil {
			c.ended("OK")
			writeJSON(w, http.StatusOK, out)
			return
		}
		s := status.Convert(err)
		c.ended(s.Code().String() + ": " + s.Message())
		setDefault(&httpStatus, httpOfCode(s.Code()))
		details := []any{}
		for _, d := range s.Details() {
			if retry, ok := d.(*errdetails.RetryInfo); ok {
				delay := retry.RetryDelay.AsDuration()
				setRetryAfter(w, delay)
				details = append(details, map[string]string{
					"@type":      "type.googleapis.com/google.rpc.RetryInfo",
					"retryDelay": fmt.Sprintf("%gs", delay.Seconds()),
				})
			}
		}
		writeJSON(w, httpStatus, struct {
			Code    codes.Code `json:"code"`
			Message string     `json:"message"`
			Details []any      `json:"details"`
		}{s.Code(), s.Message(), details})
	}
}

// writeJSON answers with a JSON body.
func writeJSON(w http.ResponseWriter, httpStatus int, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		http.Error(w, "the answer cannot be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(httpStatus)
	_, _ = w.Write(b)
}
