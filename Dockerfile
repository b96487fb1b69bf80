# An image of the project with its environment; see docs/deployment.md.
#
#   docker build --build-arg SOURCE_COMMIT="$(git rev-parse HEAD)" --tag resnet50-pipeline:0.1.0 .
#   docker build --build-arg DEVICE=gpu --build-arg SOURCE_COMMIT="$(git rev-parse HEAD)" --tag resnet50-pipeline:0.1.0-gpu .
#   docker run --rm --volume "$PWD/data:/project/data" resnet50-pipeline:0.1.0 run --env test
ARG DEVICE=cpu

FROM python:3.11-slim-bookworm AS python
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DO_NOT_TRACK=true KEDRO_DISABLE_TELEMETRY=1 MLFLOW_DISABLE_TELEMETRY=true DVC_NO_ANALYTICS=1 GX_ANALYTICS_ENABLED=false

FROM python AS environment
ARG DEVICE
WORKDIR /build
COPY requirements.lock requirements-gpu.lock ./
# As in tools/setup.sh, uv installs the lock file, whose setuptools builds source packages. Every package has a hash.
RUN lock=requirements.lock \
    && if [ "$DEVICE" = gpu ]; then lock=requirements-gpu.lock; fi \
    && awk '/^[^ #]/ { keep = /^uv==/ } keep' "$lock" >uv.lock \
    && awk '/^[^ #]/ { keep = /^(setuptools|wheel)==/ } keep' "$lock" >build.lock \
    && python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --quiet --require-hashes --no-deps --requirement uv.lock \
    && for file in build.lock "$lock"; do \
        VIRTUAL_ENV=/opt/venv /opt/venv/bin/uv pip install --no-cache --quiet --require-hashes --no-deps \
            --no-build-isolation --requirement "$file" || exit 1; \
    done
COPY pyproject.toml setup.py README.md ./
COPY src src
ARG SOURCE_COMMIT=none-dirty
# uv checks the packages with the metadata in pyproject.toml.
RUN export VIRTUAL_ENV=/opt/venv SOURCE_COMMIT="$SOURCE_COMMIT" \
    && /opt/venv/bin/uv pip install --no-cache --quiet --no-deps --no-build-isolation . \
    && /opt/venv/bin/uv pip check --quiet \
    && /opt/venv/bin/python -m resnet50_pipeline.trainer.probes.cuda_libraries

FROM python AS on-cpu

# The CUDA libraries come from the lock file. The driver comes from the host.
FROM python AS on-gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

# hadolint ignore=DL3006
FROM on-${DEVICE}
# Paddle links to libgomp but does not contain it. The version is not pinned, so that Debian's security updates apply.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home pipeline \
    && install --directory --owner=pipeline --group=pipeline /project /project/data /project/conf/local
COPY --from=environment /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /project
COPY conf conf
USER 1000:1000
ENTRYPOINT ["resnet50-pipeline"]
CMD ["run"]
