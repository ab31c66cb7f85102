# The image of Kagami: two static binaries and nothing else, run as a user without rights.
#
#   docker build .                     compiles the binaries from this clone (the last stage, `compiled`)
#   docker build --target prebuilt .   takes them from dist/, which is what `make image` does
#
# `prebuilt` stands before the compiler's stage on purpose: a builder that builds every stage up to its target then needs no
# base image at all.

FROM scratch AS base
LABEL org.opencontainers.image.title="kagami" \
      org.opencontainers.image.description="ElastiCache replication groups on your own Kubernetes" \
      org.opencontainers.image.source="https://github.com/kagami-operator/kagami" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 65532:65532
ENTRYPOINT ["/kagami"]

FROM base AS prebuilt
COPY --chmod=0755 dist/kagami dist/kagami-agent /

FROM docker.io/library/rust:1.95.0-bookworm AS compile
RUN apt-get update && apt-get install -y --no-install-recommends musl-tools && rm -rf /var/lib/apt/lists/*
WORKDIR /kagami
# The toolchain is the one of the base image; the file would only make rustup look for components that a build does not use.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN rustup target add "$(uname -m)-unknown-linux-musl"
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/kagami/target \
    target="$(uname -m)-unknown-linux-musl" \
 && cargo build --release --locked --target "$target" -p kagami -p kagami-agent \
 && mkdir /out && cp "target/$target/release/kagami" "target/$target/release/kagami-agent" /out/

FROM base AS compiled
COPY --from=compile --chmod=0755 /out/kagami /out/kagami-agent /
