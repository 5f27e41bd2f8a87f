# The demo: docker build -t shortcut-gen . && docker run --rm -p 7860:7860 shortcut-gen
# For the internet take compose.yaml, which puts it behind a proxy with limits; docs/operating.md says what they are for.
#
# On x86-64 Linux pip's usual PyTorch carries CUDA (several GB). For the small image, name an index of CPU wheels:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=... -t shortcut-gen .      (PyTorch's install page has its address)
FROM python:3.11-slim-bookworm AS build

ARG PIP_EXTRA_INDEX_URL=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
# The dependencies alone, so that this layer outlives changes to the code.
RUN mkdir shortcut_gen training ui \
 && pip install -c constraints.txt ".[ui]" \
 && pip uninstall --yes shortcut-gen
# The native engine; the code itself is copied below.
COPY setup.py MANIFEST.in ./
COPY shortcut_gen/vectors.h shortcut_gen/
COPY shortcut_gen/decoding/native shortcut_gen/decoding/native
RUN pip install "setuptools>=83" && python setup.py build_ext --inplace


FROM python:3.11-slim-bookworm

RUN apt-get update \
 && apt-get install -y --no-install-recommends libfluidsynth3 musescore-general-soundfont-small \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 10001 demo \
 && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/shortcut-gen
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY LICENSE ./
COPY shortcut_gen shortcut_gen
COPY --from=build /build/shortcut_gen/decoding/native/ shortcut_gen/decoding/native/
COPY ui ui
COPY checkpoints checkpoints
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_WAIT_POLICY=PASSIVE MPLCONFIGDIR=/tmp/matplotlib \
    TMPDIR=/var/lib/shortcut-gen
USER 10001
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/healthz', timeout=4).read(1)"]
CMD ["python", "-m", "ui", "--checkpoints", "checkpoints", "--host", "0.0.0.0", "--port", "7860"]
