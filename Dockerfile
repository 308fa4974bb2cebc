# syntax=docker/dockerfile:1
# The operator's image. The base is pinned by digest through an argument, so that a build can be repeated:
#
#   docker build --build-arg BASE=docker.io/library/python:3.13-slim@sha256:... \
#     --build-arg VERSION=0.1.0 --build-arg REVISION=$(git rev-parse HEAD) \
#     --sbom=true --provenance=mode=max -t registry.example/chandlery:0.1.0 .
#
# --sbom attaches a list of what is inside (SPDX) to the image; the labels follow the OCI image specification.
# It runs as user 65532 with a read-only root file system; only /tmp is written to.
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
# What requirements.lock names and nothing else, by hash; it changes less often than our own code.
COPY hack/uv.lock requirements.lock ./
RUN python -m pip install --require-hashes -r uv.lock
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY controllers controllers
COPY crds crds
COPY docs/quickstart docs/quickstart
# The lock pins extras and tools too: it is the constraint, the project says what is needed.
RUN python -m venv --without-pip /opt/chandlery \
 && uv pip install --python /opt/chandlery/bin/python --constraint requirements.lock --compile-bytecode '.[s3]' \
 && /opt/chandlery/bin/chandlery version

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=
ARG BASE
LABEL org.opencontainers.image.title="Chandlery" \
      org.opencontainers.image.description="Backing services for applications, as Kubernetes custom resources." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE}"
COPY --from=build /opt/chandlery /opt/chandlery
ENV PATH=/opt/chandlery/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
USER 65532:65532
WORKDIR /tmp
EXPOSE 8080 9443
ENTRYPOINT ["chandlery"]
CMD ["operator"]
