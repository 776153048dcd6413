# The container image: one executable with the shared libraries it names, and the certificate authorities. No shell, no package
# manager, nobody to log in as.
#
#   docker build -t lakefall .
#   docker run --rm --read-only --tmpfs /tmp -v lakefall:/var/lib/lakefall -p 8080:8080 lakefall dev --listen 0.0.0.0:8080
#
# The builder is pinned by its version; pin its digest where builds must be the same to the byte:
#   --build-arg BUILDER=rust@sha256:…
# `.ci/rootfs` makes the same root filesystem without a container engine, and packs it as an OCI image.

ARG BUILDER=rust:1.95.0-slim-bookworm
FROM ${BUILDER} AS build

RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates gcc g++ make python3 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# Only `-p lakefall`: a build of the whole workspace has what tests need.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --package lakefall \
    && .ci/rootfs target/release/lakefall /image

FROM scratch
COPY --from=build /image/rootfs/ /
LABEL org.opencontainers.image.title="Lakefall" \
      org.opencontainers.image.description="A message queue that keeps everything in object storage" \
      org.opencontainers.image.licenses="Apache-2.0"
# Huge pages keep memory that was given back.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt MIMALLOC_ALLOW_THP=0
# By number, so that Kubernetes can tell that it is not root.
USER 65532:65532
WORKDIR /var/lib/lakefall
# The API, health and metrics, the RPC of metadata replicas.
EXPOSE 8080 8081 8082
# A stop hands over shards and lets requests in flight end.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/lakefall"]
CMD ["--help"]
