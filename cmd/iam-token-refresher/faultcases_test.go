package main

import (
	"time"

	"iam-token-refresher/refresher/emulator"
)

// fate is what becomes of a value when a service does wrong.
type fate int

const (
	fails     fate = iota // none is minted
	rejected              // it is refused
	held                  // nothing can be told of it
	hangs                 // it is waited for, longer than a test can
	unchanged             // it is what is published already; a first one is published
	published             // nothing is amiss in the end
)

func (f fate) String() string {
	return [...]string{"fails", "rejected", "held", "hangs", "unchanged", "published"}[f]
}

// outcome is what a fault comes to.
type outcome struct {
	fate fate
	// says is what log, status and commands say about it.
	says string
	// lasting: a person must act, so that the next attempt is far off.
	lasting bool
	probe   string // further options
}

// faultCase is a token in a cloud that does one thing wrong.
type faultCase struct {
	source string // in makings
	fault  emulator.Fault
	outcome
}

// fault is one of a service.
func fault(service, kind string, change ...func(*emulator.Fault)) emulator.Fault {
	f := emulator.Fault{Service: service, Kind: kind}
	for _, c := range change {
		c(&f)
	}
	return f
}

func code(name string) func(*emulator.Fault) { return func(f *emulator.Fault) { f.Code = name } }
func httpStatus(n int) func(*emulator.Fault) { return func(f *emulator.Fault) { f.Status = n } }
func late(f *emulator.Fault)                 { f.Latency = 300 * time.Millisecond }

// Sources, as makings names them.
const (
	byKey, byVM, byWorkload, byLogin = "service_account_key", "metadata", "workload_identity", "oauth"
)

// mintFaults are every service that values come from with every kind of fault.
func mintFaults() map[string]faultCase {
	const (
		iam, meta       = emulator.ServiceIAM, emulator.ServiceMetadata
		exchange, oauth = emulator.ServiceTokenExchange, emulator.ServiceOAuth

		fromIAM, fromVM = "create IAM token at 127.*", "get token from the metadata service at http://127.*"
		fromExchange    = "exchange workload token .*/oidc.jwt at https://127.*"
		fromOAuth       = "refresh the login at https://127.*"
	)
	return map[string]faultCase{
		"iam error UNAVAILABLE":        {byKey, fault(iam, emulator.KindError), outcome{says: fromIAM + "UNAVAILABLE: .*injected fault"}},
		"iam error UNAUTHENTICATED":    {byKey, fault(iam, emulator.KindError, code("UNAUTHENTICATED")), outcome{says: fromIAM + "UNAUTHENTICATED: .*the key was deleted or belongs to another account", lasting: true}},
		"iam error PERMISSION_DENIED":  {byKey, fault(iam, emulator.KindError, code("PERMISSION_DENIED")), outcome{says: fromIAM + "PERMISSION_DENIED: .*was deleted or blocked: check it with yc iam service-account get", lasting: true}},
		"iam error RESOURCE_EXHAUSTED": {byKey, fault(iam, emulator.KindError, code("RESOURCE_EXHAUSTED")), outcome{says: fromIAM + "RESOURCE_EXHAUSTED"}},
		"iam error INTERNAL":           {byKey, fault(iam, emulator.KindError, code("INTERNAL")), outcome{says: fromIAM + "INTERNAL"}},
		"iam status 503":               {byKey, fault(iam, emulator.KindStatus, httpStatus(503)), outcome{says: fromIAM + "the answer is not IAM's but a gateway's: 503"}},
		"iam status 403":               {byKey, fault(iam, emulator.KindStatus, httpStatus(403)), outcome{says: fromIAM + "403 Forbidden of something else: a proxy or another program answers at this address"}},
		"iam html":                     {byKey, fault(iam, emulator.KindHTML), outcome{says: fromIAM + "a proxy or another program answers at this address: check endpoints.iam and HTTPS_PROXY"}},
		"iam redirect":                 {byKey, fault(iam, emulator.KindRedirect), outcome{says: fromIAM + "302 Found of something else"}},
		"iam hang":                     {byKey, fault(iam, emulator.KindHang), outcome{fate: hangs}},
		"iam slow":                     {byKey, fault(iam, emulator.KindSlow, late), outcome{fate: published}},
		"iam reset":                    {byKey, fault(iam, emulator.KindReset), outcome{says: fromIAM + "UNAVAILABLE: "}},
		"iam garbage":                  {byKey, fault(iam, emulator.KindGarbage), outcome{says: fromIAM + "the token it gave has "}},
		"iam empty":                    {byKey, fault(iam, emulator.KindEmpty), outcome{says: fromIAM + "the token it gave is empty"}},
		"iam expired":                  {byKey, fault(iam, emulator.KindExpired), outcome{says: fromIAM + "the token it gave expired (59|6.) s ago"}},
		"iam same_token":               {byKey, fault(iam, emulator.KindSameToken), outcome{fate: unchanged}},

		"metadata error 500":  {byVM, fault(meta, emulator.KindError), outcome{says: fromVM + "the answer is 500 Internal Server Error"}},
		"metadata error 404":  {byVM, fault(meta, emulator.KindError, httpStatus(404)), outcome{says: fromVM + "404: no service account is attached to this virtual machine: attach one", lasting: true}},
		"metadata status 403": {byVM, fault(meta, emulator.KindStatus, httpStatus(403)), outcome{says: fromVM + "403: it refuses to give a token: allow it with --metadata-options gce-http-token=enabled", lasting: true}},
		"metadata status 429": {byVM, fault(meta, emulator.KindStatus, httpStatus(429)), outcome{says: fromVM + "too many requests .429."}},
		"metadata html":       {byVM, fault(meta, emulator.KindHTML), outcome{says: fromVM + "200 OK with .* bytes of HTML.*another program may answer at this address: check endpoints.metadata"}},
		"metadata redirect":   {byVM, fault(meta, emulator.KindRedirect), outcome{says: fromVM + "the answer is a redirect .302 Found., which is not followed with credentials"}},
		"metadata hang":       {byVM, fault(meta, emulator.KindHang), outcome{fate: hangs}},
		"metadata slow":       {byVM, fault(meta, emulator.KindSlow, late), outcome{fate: published}},
		"metadata reset":      {byVM, fault(meta, emulator.KindReset), outcome{says: fromVM + "the connection was closed before the answer was complete"}},
		"metadata garbage":    {byVM, fault(meta, emulator.KindGarbage), outcome{says: fromVM + "the answer .* is not valid JSON"}},
		"metadata empty":      {byVM, fault(meta, emulator.KindEmpty), outcome{says: fromVM + "200 OK without a body"}},
		"metadata expired":    {byVM, fault(meta, emulator.KindExpired), outcome{says: fromVM + "the token it gave has expired"}},
		"metadata same_token": {byVM, fault(meta, emulator.KindSameToken), outcome{fate: unchanged}},

		"token_exchange error 500":            {byWorkload, fault(exchange, emulator.KindError), outcome{says: fromExchange + "500: .*server_error"}},
		"token_exchange error invalid_target": {byWorkload, fault(exchange, emulator.KindError, code("invalid_target")), outcome{says: fromExchange + "400: .*invalid_target.*check the federation and its federated credentials", lasting: true}},
		"token_exchange error 429":            {byWorkload, fault(exchange, emulator.KindError, httpStatus(429)), outcome{says: fromExchange + "429: .*slow_down"}},
		"token_exchange status 503":           {byWorkload, fault(exchange, emulator.KindStatus, httpStatus(503)), outcome{says: fromExchange + "the answer is 503 Service Unavailable"}},
		"token_exchange html":                 {byWorkload, fault(exchange, emulator.KindHTML), outcome{says: fromExchange + "200 OK with .* bytes of HTML.*check endpoints.token_exchange and HTTPS_PROXY"}},
		"token_exchange redirect":             {byWorkload, fault(exchange, emulator.KindRedirect), outcome{says: fromExchange + "the answer is a redirect .302 Found., which is not followed with credentials"}},
		"token_exchange hang":                 {byWorkload, fault(exchange, emulator.KindHang), outcome{fate: hangs}},
		"token_exchange slow":                 {byWorkload, fault(exchange, emulator.KindSlow, late), outcome{fate: published}},
		"token_exchange reset":                {byWorkload, fault(exchange, emulator.KindReset), outcome{says: fromExchange + "the connection was closed before the answer was complete"}},
		"token_exchange garbage":              {byWorkload, fault(exchange, emulator.KindGarbage), outcome{says: fromExchange + "the answer .* is not valid JSON"}},
		"token_exchange empty":                {byWorkload, fault(exchange, emulator.KindEmpty), outcome{says: fromExchange + "200 OK without a body"}},
		"token_exchange expired":              {byWorkload, fault(exchange, emulator.KindExpired), outcome{says: fromExchange + "the token it gave has expired"}},
		"token_exchange same_token":           {byWorkload, fault(exchange, emulator.KindSameToken), outcome{fate: unchanged}},

		"oauth error 500":            {byLogin, fault(oauth, emulator.KindError), outcome{says: fromOAuth + "refused: server_error"}},
		"oauth error 503":            {byLogin, fault(oauth, emulator.KindError, httpStatus(503)), outcome{says: fromOAuth + "refused: temporarily_unavailable"}},
		"oauth error 429":            {byLogin, fault(oauth, emulator.KindError, httpStatus(429)), outcome{says: fromOAuth + "refused: slow_down"}},
		"oauth error invalid_grant":  {byLogin, fault(oauth, emulator.KindError, code("invalid_grant")), outcome{says: fromOAuth + "refused: invalid_grant: log in again: iam-token-refresher login --client-id", lasting: true}},
		"oauth error invalid_client": {byLogin, fault(oauth, emulator.KindError, code("invalid_client")), outcome{says: fromOAuth + "refused: invalid_client: the service does not know this client_id, or the client secret is not its own", lasting: true}},
		"oauth error something_new":  {byLogin, fault(oauth, emulator.KindError, code("something_new")), outcome{says: fromOAuth + "refused: something_new: compare the application's settings", lasting: true}},
		"oauth error that is none":   {byLogin, fault(oauth, emulator.KindError, code("<b>Not a code")), outcome{says: fromOAuth + "the answer .400 Bad Request. is not the service's"}},
		"oauth status 503":           {byLogin, fault(oauth, emulator.KindStatus, httpStatus(503)), outcome{says: fromOAuth + "the answer is 503 Service Unavailable"}},
		"oauth status 429":           {byLogin, fault(oauth, emulator.KindStatus, httpStatus(429)), outcome{says: fromOAuth + "too many requests .429."}},
		"oauth status 403":           {byLogin, fault(oauth, emulator.KindStatus, httpStatus(403)), outcome{says: fromOAuth + "the answer .403 Forbidden. is not the service's: another program may answer at this address"}},
		"oauth html":                 {byLogin, fault(oauth, emulator.KindHTML), outcome{says: fromOAuth + "the answer .200 OK. is not the service's: another program may answer at this address: check endpoints.oauth and HTTPS_PROXY"}},
		"oauth redirect":             {byLogin, fault(oauth, emulator.KindRedirect), outcome{says: fromOAuth + "the answer is a redirect .302 Found., which is not followed with credentials"}},
		"oauth hang":                 {byLogin, fault(oauth, emulator.KindHang), outcome{fate: hangs}},
		"oauth slow":                 {byLogin, fault(oauth, emulator.KindSlow, late), outcome{fate: published}},
		"oauth late":                 {byLogin, fault(oauth, emulator.KindLate, late), outcome{fate: published}},
		"oauth reset":                {byLogin, fault(oauth, emulator.KindReset), outcome{says: fromOAuth + "the connection was closed before the answer was complete"}},
		"oauth garbage":              {byLogin, fault(oauth, emulator.KindGarbage), outcome{says: fromOAuth + "the answer .200 OK. is not the service's"}},
		"oauth empty":                {byLogin, fault(oauth, emulator.KindEmpty), outcome{says: fromOAuth + "the answer .200 OK. is not the service's"}},
		"oauth expired":              {byLogin, fault(oauth, emulator.KindExpired), outcome{says: fromOAuth + "the token it gave has expired"}},
		"oauth same_token":           {byLogin, fault(oauth, emulator.KindSameToken), outcome{fate: unchanged}},
	}
}

// probeFaults are Tracker with every kind of fault.
func probeFaults() map[string]faultCase {
	const (
		track       = emulator.ServiceTracker
		fromTracker = "Tracker at 127.*"
	)
	cases := map[string]faultCase{
		"tracker error 401": {byKey, fault(track, emulator.KindError, httpStatus(401)), outcome{fate: rejected, says: "the new value was rejected: " + fromTracker + "401: "}},
		"tracker error 403": {byKey, fault(track, emulator.KindError, httpStatus(403)), outcome{fate: rejected, says: "the new value has no access: " + fromTracker + "403: "}},
		"tracker expired":   {byKey, fault(track, emulator.KindExpired), outcome{fate: rejected, says: "the new value was rejected: " + fromTracker + "401: "}},
		"tracker slow":      {byKey, fault(track, emulator.KindSlow, late), outcome{fate: published}},
	}
	for name, u := range unknowns {
		c := faultCase{byKey, u.fault, outcome{fate: held, says: fromTracker + u.says}}
		if c.fault.Kind == emulator.KindHang {
			c.probe = ", timeout: 1s"
		}
		cases["tracker: "+name] = c
	}
	return cases
}
