# A static binary, the CA certificates and nothing else: no shell, no user
# database. Both base images can be named, by digest
# too: --build-arg GO_IMAGE=golang:1.26@sha256:…
ARG GO_IMAGE=golang:1.26
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY refresher refresher
COPY sink sink
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
# As in the Makefile, and without a stamp of the repository, which is not here.
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false -tags grpcnotrace \
    -ldflags "-s -w -X main.version=$VERSION" -o /iam-token-refresher ./cmd/iam-token-refresher
RUN mkdir /empty

FROM scratch
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="iam-token-refresher" \
      org.opencontainers.image.description="Always a working Yandex Cloud IAM token at hand" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /iam-token-refresher /
# New volumes that are mounted here take over whom the directories belong to.
COPY --from=build --chown=65532:65532 /empty /run/iam-token
COPY --from=build --chown=65532:65532 /empty /var/lib/iam-token-refresher
USER 65532:65532
# It asks the status listener or the socket of ITR_STATUS_LISTEN, ITR_SOCKET_PATH,
# ITR_CONFIG or /etc/iam-token-refresher/config.yaml.
HEALTHCHECK --interval=30s --timeout=6s --start-period=1m CMD ["/iam-token-refresher", "healthcheck"]
ENTRYPOINT ["/iam-token-refresher"]
CMD ["run"]
