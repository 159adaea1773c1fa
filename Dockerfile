# One image for worker, beat and web; docker-compose.yml says which it is.
FROM python:3.12-slim
WORKDIR /app
RUN useradd --create-home orchestrator
COPY requirements.lock ./
RUN pip install --no-cache-dir --require-hashes -r requirements.lock
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation -e .
USER orchestrator
ENV PYTHONUNBUFFERED=1 ORCHESTRATOR_LOG_FORMAT=json ORCHESTRATOR_DATA_DIR=/home/orchestrator/data
ENTRYPOINT ["orchestrator"]
