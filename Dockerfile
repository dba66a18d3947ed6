# docker build -t moka . (docs/install.md tells more)
# For GPUs: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 -t moka:cuda .
# and docker run --gpus all ...
FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml setup.py README.md LICENSE ./
COPY src src
COPY models models
COPY matlab matlab
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PYTHONUNBUFFERED=1
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" "torch>=2.6"
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir "$(echo /wheels/*.whl)[web]"
RUN useradd --create-home --uid 1000 moka
USER 1000:1000
WORKDIR /work
ENTRYPOINT ["caffe"]
CMD ["help"]
