FROM python:3.13.14-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/waylink \
    && /opt/waylink/bin/pip install --require-hashes -r requirements.lock
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY app app
COPY workers workers
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && /opt/waylink/bin/pip install --no-deps --no-index /dist/*.whl

FROM python:3.13.14-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/waylink --create-home --shell /usr/sbin/nologin waylink
COPY --from=build /opt/waylink /opt/waylink
# No secret is built in: they come from the environment or from mounted files.
ENV PATH=/opt/waylink/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    WAYLINK_DATA_DIR=/var/lib/waylink \
    WAYLINK_HOST=0.0.0.0 \
    WAYLINK_PORT=8080
USER waylink
WORKDIR /var/lib/waylink
EXPOSE 8080
# For `waylink web`. A container that runs another command switches it off.
HEALTHCHECK --interval=10s --timeout=4s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['WAYLINK_PORT'] + '/healthz', timeout=3)"]
CMD ["waylink", "web"]
