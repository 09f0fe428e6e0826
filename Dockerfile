# The configuration comes from a mounted directory:
#   docker build -t mcp-manifold .
#   docker run --init -p 127.0.0.1:8300:8300 -v "$PWD/my-config:/etc/mcp-manifold:ro" mcp-manifold
# It listens on all addresses of the container, so the configuration must have a credential: see docs/guide/security.md.
# `--init` reaps what stdio upstreams leave behind. npx and uvx are not in this image; see docs/guide/operating.md.

FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/mcp-manifold
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
RUN /opt/mcp-manifold/bin/pip install --no-cache-dir .

FROM python:3.13-slim
LABEL org.opencontainers.image.title="mcp-manifold" \
      org.opencontainers.image.description="One MCP endpoint in front of many MCP servers" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 manifold \
    && useradd --uid 10001 --gid manifold --create-home --home-dir /var/lib/mcp-manifold manifold
COPY --from=build /opt/mcp-manifold /opt/mcp-manifold
ENV PATH="/opt/mcp-manifold/bin:$PATH" \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/mcp-manifold
USER 10001:10001
EXPOSE 8300
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8300/livez', timeout=4)"]
ENTRYPOINT ["mcp-manifold"]
CMD ["serve", "--http", "--host", "0.0.0.0", "--port", "8300", "--config", "/etc/mcp-manifold/config.yaml"]
