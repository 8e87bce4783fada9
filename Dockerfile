# One image for every program of the system; docker-compose.yml says which one a container runs.

FROM python:3.11-slim AS packages
COPY requirements.txt .
# Wheels only: nothing is compiled, so there is no compiler to leave behind; pip stays outside too.
RUN python -m venv --without-pip /opt/venv \
 && python -m pip --python /opt/venv/bin/python install --no-cache-dir --only-binary=:all: -r requirements.txt

FROM python:3.11-slim
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MEDIA_ROOT=/srv/media \
    FLOWER_DB=/srv/flower/flower
# A named volume takes its owner from the folder that it covers.
RUN groupadd --system --gid 10001 mailer \
 && useradd --system --uid 10001 --gid mailer --no-create-home --shell /usr/sbin/nologin mailer \
 && install -d -o mailer -g mailer /srv/media /srv/flower
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY . .
# Compiled by root once, as the programs may not write here.
RUN python -m compileall -q . \
 && SECRET_KEY=for-this-command-only python manage.py collectstatic --noinput
USER mailer
CMD ["gunicorn", "mailer_project.wsgi", "--bind=0.0.0.0:8000", "--workers=2", "--worker-class=gthread", \
     "--threads=4", "--worker-tmp-dir=/dev/shm", "--no-control-socket"]
