# The locked dependencies and the package; nothing that builds them. tools/image.py carries these steps out without a
# container engine, for the tests.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
COPY requirements.txt .
RUN pip install --no-cache-dir --no-compile --no-deps --only-binary=:all: --require-hashes --target=/app --requirement=requirements.txt
RUN rm -r /app/bin
COPY operator/trtllm_operator /app/trtllm_operator
RUN chmod -R a+rX /app
RUN python -m compileall -q --invalidation-mode=unchecked-hash /app

FROM ${BASE}
LABEL org.opencontainers.image.title="trtllm-operator" org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /app /app
ENV PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["python", "-m", "trtllm_operator"]
CMD ["run"]
