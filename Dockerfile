# Two stages: the first installs from the lock file, the second runs the command as an unprivileged user.
# The digest fixes the image. docs/guides/docker.md shows how to update it.
ARG PYTHON_IMAGE=python:3.12-slim@sha256:78387bc3881b8273120a12ebe6c1ab22b018ccc2c9adf565ae1ac9b536e184ea
FROM ${PYTHON_IMAGE} AS install
WORKDIR /app
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml README.md LICENSE Makefile requirements.lock requirements-uv.lock requirements-overrides.txt prefect.yaml ./
COPY counterfoil counterfoil
COPY flows flows
COPY tasks tasks
COPY schemas schemas
RUN make setup

FROM ${PYTHON_IMAGE}
# The runtime of the embedded model needs libgomp (OpenMP).
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 counterfoil && mkdir -p /home/counterfoil/work && chown counterfoil /home/counterfoil/work
WORKDIR /app
COPY --from=install /app /app
COPY data data
ENV PATH="/app/.venv/bin:$PATH" PYTHONUNBUFFERED=1 COUNTERFOIL_HOME=/home/counterfoil/work
USER 1000
VOLUME /home/counterfoil/work
ENTRYPOINT ["counterfoil"]
CMD ["--help"]
