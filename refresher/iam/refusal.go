package iam

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"iam-token-refresher/refresher/httpanswer"
)

// advice puts what to do about a refusal into its trouble.
type advice func(context.Context, codes.Code, *trouble)

// remedies is the advice that a code alone gives; "" where there is none.
func remedies(byCode func(codes.Code) string) advice {
	return func(_ context.Context, code codes.Code, t *trouble) { t.remedy = byCode(code) }
}

// refused makes the trouble of a failed call out of what the SDK returned.
func (c *Cloud) refused(ctx context.Context, a attempt, advise advice, noted answer, err error) trouble {
	if t, ok := a.outOfTime(ctx, c.endpoints.IAM); ok {
		return t
	}
	// The status as it came from the wire: status.FromError would put the text
	// of every wrapping error into the message.
	var carrier interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &carrier) {
		return trouble{problem: quote(err.Error(), a.secrets...)}
	}
	st := carrier.GRPCStatus()
	message := st.Message()
	t := trouble{
		serverTime: noted.serverTime,
		retryAfter: retryDelay(st),
	}
	switch {
	case isForeign(message):
		t.problem, t.remedy = foreign(message)
		return t
	case st.Code() == codes.Unavailable:
		t.problem, t.remedy = unavailable(message, a.secrets)
		return t
	}
	t.problem = codeName(st.Code())
	if said := quote(message, a.secrets...); said != "" {
		t.problem += ": " + said
	}
	if noted.requestID != "" {
		t.problem += " (request " + quote(noted.requestID, a.secrets...) + ")"
	}
	t.permanent = isPermanent(st.Code())
	advise(ctx, st.Code(), &t)
	return t
}

// isForeign tells whether grpc made the status of an answer that is not gRPC:
// a proxy's page, a redirect, a gateway's 502.
func isForeign(message string) bool {
	return strings.Contains(message, notGRPC) || strings.Contains(message, "content-type")
}

const notGRPC = "unexpected HTTP status code received from server: "

// foreign explains such an answer by its HTTP status alone: the rest of the
// message quotes the body.
func foreign(message string) (problem, remedy string) {
	_, rest, _ := strings.Cut(message, notGRPC)
	code, _, _ := strings.Cut(rest, " ")
	httpStatus, err := strconv.Atoi(code)
	switch {
	case err != nil:
		problem = "the answer is not gRPC"
	case httpStatus >= 500, httpStatus == http.StatusTooManyRequests:
		return "the answer is not IAM's but a gateway's: " + httpanswer.StatusText(httpStatus), ""
	default:
		problem = "the answer is not IAM's but " + httpanswer.StatusText(httpStatus) + " of something else"
	}
	return problem, "a proxy or another program answers at this address: check endpoints.iam and HTTPS_PROXY"
}

// isPermanent tells codes that say "no" from those that say "not now".
func isPermanent(code codes.Code) bool {
	switch code {
	case codes.Unauthenticated, codes.PermissionDenied, codes.NotFound,
		codes.InvalidArgument, codes.FailedPrecondition, codes.Unimplemented:
		return true
	}
	return false
}

// unavailable explains why there was no answer. The text is grpc's own: the
// dialler's error inside layers of desc = "…".
func unavailable(message string, secrets []string) (problem, remedy string) {
	reason := message
	if i := strings.LastIndex(reason, `desc = "`); i >= 0 {
		reason = strings.TrimSuffix(reason[i+len(`desc = "`):], `"`)
	}
	for _, layer := range []string{"transport: Error while dialing: ", "transport: authentication handshake failed: ", "transport: "} {
		reason = strings.TrimPrefix(reason, layer)
	}
	reason = strings.ReplaceAll(reason, `\"`, `'`)
	return "UNAVAILABLE: " + quote(reason, secrets...), connectRemedy(reason)
}

// connectRemedy says what to do about an error of a dialler.
func connectRemedy(reason string) string {
	switch {
	case strings.Contains(reason, "x509:"), strings.Contains(reason, "certificate"):
		return "its certificate is not trusted here: if a proxy inspects TLS, give its CA with ca_file; otherwise check the address and this machine's clock and CA certificates"
	case strings.Contains(reason, "first record does not look like a TLS handshake"), strings.Contains(reason, "HTTP response to HTTPS client"):
		return "what answers there does not speak TLS: check the address under endpoints"
	case strings.Contains(reason, "lookup "), strings.Contains(reason, "produced zero addresses"):
		return "check the name under endpoints and this machine's DNS"
	case strings.Contains(reason, "refused"), strings.Contains(reason, "unreachable"), strings.Contains(reason, "timeout"), strings.Contains(reason, "no route"):
		return "check the network, the firewall, HTTPS_PROXY and the address under endpoints"
	}
	return ""
}

// retryDelay is how long the service asked to be left alone.
// https://yandex.cloud/en/docs/api-design-guide/concepts/errors
func retryDelay(st *status.Status) time.Duration {
	for _, detail := range st.Proto().GetDetails() {
		var info errdetails.RetryInfo
		if detail.MessageIs(&info) && detail.UnmarshalTo(&info) == nil {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// codeName is a code as the documentation of the API writes it: PERMISSION_DENIED.
func codeName(code codes.Code) string {
	var name strings.Builder
	for i, r := range code.String() {
		if i > 0 && unicode.IsUpper(r) {
			name.WriteByte('_')
		}
		name.WriteRune(unicode.ToUpper(r))
	}
	return name.String()
}
