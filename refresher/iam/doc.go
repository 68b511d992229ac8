// Package iam holds the sources of IAM tokens: service-account keys, the
// metadata service, workload identity federation, a person's OAuth token, a
// command, somebody else's file, and impersonation on top of any of them. It is
// the only package that knows the cloud's SDK.
//
// A [Cloud] is what all sources share: one gRPC connection to IAM, which is
// dialled at the first mint and goes idle between renewals, and HTTP clients.
// Each kind of source has an option struct whose New reads what it needs and
// builds an immutable [refresher.Source].
//
// Errors of Mint are made for people and hold no secrets: what the SDK, HTTP or
// a child process said is reduced to a code and at most 200 scrubbed bytes.
package iam
