# syntax=docker/dockerfile:1
# One image for servers and workers: the wheel, its dependencies, and nothing to build with.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY client client
COPY server server
COPY core core
COPY protos protos
RUN python -m venv /opt/paramserve \
    && /opt/paramserve/bin/pip install --no-cache-dir .

FROM build AS build-demo
RUN /opt/paramserve/bin/pip install --no-cache-dir '.[demo]'

FROM ${BASE} AS server
COPY --from=build /opt/paramserve /opt/paramserve
ENV PATH=/opt/paramserve/bin:$PATH \
    PYTHONUNBUFFERED=1
RUN useradd --system --uid 10001 --create-home paramserve \
    && install -d -o paramserve -g paramserve /checkpoints
USER paramserve
WORKDIR /home/paramserve
VOLUME /checkpoints
EXPOSE 2222
# `status` exits with 0 only when the server answers.
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s --retries=3 \
    CMD ["paramserve", "status", "grpc://127.0.0.1:2222"]
ENTRYPOINT ["paramserve"]
CMD ["serve", "--listen", "0.0.0.0:2222", "--checkpoint-root", "/checkpoints"]

# What a training program needs besides: the examples and their data set.
FROM server AS worker
COPY --from=build-demo /opt/paramserve /opt/paramserve
COPY --chown=paramserve examples examples
HEALTHCHECK NONE
ENTRYPOINT []
CMD ["python", "examples/digits.py"]

FROM server
