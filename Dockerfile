# uniqdb from this clone, with the client for Kafka. `docker compose up` builds it; by hand: docker build -t uniqdb .
FROM python:3.13-slim

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY engine engine
COPY cli cli
# The versions that are tested: the pins of constraints.txt, of which pip takes no hashes for what it builds itself.
RUN sed -n 's/^\([a-z0-9.-]*==[^ ]*\( ; [^\\]*\)\{0,1\}\) \\$/\1/p' constraints.txt | sort -u > /tmp/pins.txt \
    && pip install --no-cache-dir --constraint /tmp/pins.txt '.[kafka]' \
    && rm -r /src/* /tmp/pins.txt

# The store belongs to a user without any rights, and outlives the container in a volume.
RUN useradd --system --create-home --home-dir /var/lib/uniqdb --shell /usr/sbin/nologin uniqdb
USER uniqdb
WORKDIR /var/lib/uniqdb
VOLUME /var/lib/uniqdb
STOPSIGNAL SIGTERM
ENTRYPOINT ["uniqdb"]
CMD ["serve-stream"]
