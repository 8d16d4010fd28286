# The image: a virtual environment in a slim base. Runs as nobody in particular, on a read-only root; only /var/lib/postern is written.
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv --without-pip /opt/postern && python -m venv /opt/build
COPY requirements.txt requirements-build.txt ./
RUN /opt/build/bin/pip install --require-hashes -r requirements-build.txt \
    && /opt/build/bin/pip --python /opt/postern/bin/python install --require-hashes -r requirements.txt
COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/build/bin/pip --python /opt/postern/bin/python install --no-deps --no-index /wheels/*.whl

FROM ${PYTHON_IMAGE}
ENV PATH=/opt/postern/bin:$PATH \
    HOME=/tmp \
    POSTERN_CONFIG=/etc/postern/postern.yaml \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN groupadd --system --gid 65532 postern \
    && useradd --system --uid 65532 --gid 65532 --home-dir /var/lib/postern --no-create-home --shell /usr/sbin/nologin postern \
    && install -d -o 65532 -g 65532 -m 0700 /var/lib/postern
COPY --from=build /opt/postern /opt/postern
COPY deploy/postern.yaml /etc/postern/postern.yaml
USER 65532:65532
WORKDIR /var/lib/postern
VOLUME /var/lib/postern
EXPOSE 4000 4001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:4001/livez', timeout=2)"]
ENTRYPOINT ["postern"]
CMD ["serve"]
