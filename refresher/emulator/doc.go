// Package emulator is a stand-in for the parts of Yandex Cloud that a token
// refresher talks to: IAM, its endpoint discovery, the metadata service of
// virtual machines, the exchange of OIDC tokens, Yandex OAuth, and Tracker. It
// runs over real gRPC, HTTPS and HTTP on loopback, checks what the real
// services check, and breaks on demand.
//
// It shares no code with the daemon, so that a mistake made in one does not
// cancel out in the other.
//
// # The directory
//
// [Start] writes into [Options].Dir, all made anew at each start:
//
//   - ca.pem: the CA that all TLS certificates here are signed by
//   - key.json: an authorized key of [BotAccount], as yc writes it
//   - oauth.token: an OAuth token of [Person]; oauth.secret: [ClientSecret]
//   - oidc.jwt: a workload's token of [Subject], for the token exchange;
//     written anew at 80 % of its life, by rename, as the kubelet does
//   - config.yaml: a configuration of the daemon with one token and every sink
//   - state/: an empty directory for the daemon, unless it is there already
//   - with Accounts: keys/0001.json and so on, and config-accounts.yaml, whose
//     tokens go to tokens/
//   - endpoints.json: the addresses. It comes last: once it is there,
//     everything is ready. [Emulator.Close] removes it.
//
// # Faults
//
// POST /faults of the admin service, or [Emulator.Inject], with a [Fault]:
//
//	{"service": "iam", "kind": "error", "code": "UNAVAILABLE", "retry_after": "30s", "count": 3}
//	{"service": "tracker", "kind": "status", "status": 503, "for": "10s"}
//
// "method" limits a fault to one method (as GET /calls names them), "count" to
// so many calls, "for" to a time; without either it lasts until it is cleared.
// What the kinds do, to HTTP and to gRPC (of iam and api):
//
//   - error: the service's own error, in its own form. HTTP: "status" (500 if
//     not given) with the body that this service has for errors, "code" being
//     the name of an OAuth error for token_exchange and oauth (then 400 if
//     "status" is not given). gRPC: "code" by name, else what fits "status",
//     else UNAVAILABLE; REST on the iam port shows the same as JSON.
//     "message" replaces the text. "retry_after" becomes a Retry-After header,
//     for gRPC a RetryInfo in the status details.
//   - status: a proxy before the service answers with the HTTP status "status"
//     and a line of text, also to gRPC requests.
//   - html: a captive portal answers 200 with a page, also to gRPC requests.
//   - redirect: 302 (or "status") to "location", also to gRPC requests. If not
//     given, it leads to /redirected of the same service, which answers 200
//     and counts ("tracker/redirected").
//   - hang: no answer until the client leaves or the fault ends; in the latter
//     case the call then goes on as usual.
//   - slow: the answer comes "latency" (2s if not given) later. Other faults
//     may apply as well.
//   - late: oauth's token method does its work (a refresh token is used up), and
//     the answer comes "latency" (2s if not given) later, or never to a client
//     that has left.
//   - reset: the connection is reset (TCP RST); gRPC loses every call on it.
//     Some clients then repeat a GET by themselves, which uses up a count.
//   - garbage: HTTP: 200 with a body that is not JSON although it says so.
//     gRPC: a well-formed answer with a rubbish token (List: a rubbish address)
//     that no service knows; Get and Revoke: an empty answer.
//   - empty: HTTP: 200 without a body. gRPC: an answer without any field set.
//   - expired: iam, metadata, token_exchange, oauth: the issued token's end was
//     a minute ago. tracker: 401, as for an expired token. Not for api.
//   - same_token: iam, metadata, token_exchange, oauth: the account gets its
//     last token again, even when that is revoked or expired; a new one if
//     there is none. Not for api and tracker, which issue nothing.
//
// # Admin
//
// The admin service speaks JSON over HTTP on loopback; errors are
// {"error": "what is wrong"} with a 4xx status, success without a result is 204.
//
//	GET    /                         addresses, ids and routes
//	GET    /faults                   what is injected, with what is left of it
//	POST   /faults                   a Fault
//	DELETE /faults[?service=S]       all faults, or those of one service
//	GET    /calls                    calls by "service/method"; DELETE sets them to zero
//	POST   /clock                    {"offset": "7m"}: the services' clock, ahead of ours
//	POST   /revoke                   {"token": "…"}
//	GET    /tokens                   every secret value handed out
//	POST   /tokens                   {"account": "…", "lifetime": "3s"} → {"token", "expires_at"}
//	POST   /subject-tokens           {"issuer", "audience": […], "subject", "lifetime": "-1s"} → {"token"}
//	POST   /subjects                 {"subject": "…", "account": "…"}: link them
//	GET    /accounts                 accounts with their keys
//	POST   /accounts/{id}/disable    as if deleted; /enable undoes it
//	POST   /accounts/{id}/tracker    {"allowed": false}: 403 from Tracker
//	POST   /accounts/{id}/impersonate {"account": "WHOM", "allowed": true}
//	POST   /keys                     {"account": "…", "own_rsa": false, "mismatched": false} → a key file
//	DELETE /keys/{id}                the tokens that it was used for die with it
//	POST   /metadata                 {"account": ""}: no service account; {"left": "3s"}: partly used tokens
//	GET    /oauth/devices            user codes that wait
//	POST   /oauth/devices/{code}     {"decision": "approve" | "deny" | "expire"}
//	POST   /oauth/logins             {"scope": "…"} → {"access_token", "refresh_token", "expires"}
//
// # What is not documented
//
// Where the vendor does not say how a service behaves, the emulator does this:
// clocks may differ by 30 s; the words of IAM's error messages are our own; a
// token dies with the key that it was issued for; an invalid subject token is
// invalid_request and a service account that it may not act for invalid_target
// (RFC 8693); a refresh token works once, and the answer carries its successor;
// a device that polls early is told slow_down and must wait 5 s longer; a
// request to Tracker without an organization is 403.
package emulator
