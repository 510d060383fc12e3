# whisfusion serve with tiny.en on a CPU:
#   docker build -t whisfusion_jax . && docker run --rm -p 127.0.0.1:8000:8000 whisfusion_jax
FROM python:3.12-slim AS built
COPY . /source
RUN pip wheel --no-deps --wheel-dir /wheels /source

FROM python:3.12-slim
COPY --from=built /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[server]" && rm -r /wheels \
    && useradd --create-home whisfusion
USER whisfusion
# Compiled programs and Whisper's own weights (for --decoder exact and ar) last in a volume, which
# belongs to whom the directory belonged to.
RUN mkdir /home/whisfusion/.cache
VOLUME /home/whisfusion/.cache
EXPOSE 8000
HEALTHCHECK --start-period=10m CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/ready')"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["whisfusion", "serve", "--host", "0.0.0.0"]
