# Two stages: the first installs from the lock file, the second runs the command as an unprivileged user.
FROM python:3.12-slim AS install
WORKDIR /app
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml README.md LICENSE Makefile requirements.lock requirements-uv.lock requirements-overrides.txt prefect.yaml ./
COPY counterfoil counterfoil
COPY flows flows
COPY tasks tasks
COPY schemas schemas
RUN make setup

FROM python:3.12-slim
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
