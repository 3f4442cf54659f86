#!/bin/bash
set -euo pipefail
mkdir -p /app/conf/services/billing "/app/conf/services/report builder" /app/conf/env
cd /app/conf
cat > application.properties <<'P'
# db.host = the machine that runs PostgreSQL
app.name=ledger
db.host=pg-main.internal
db.host.port=5432
db.hosts=pg-main.internal,pg-standby.internal
replica.db.host=pg-standby.internal
dbxhost=legacy
DB.HOST=shouting
startup.message=set db.host=... before you start
P
printf 'db.host = 10.1.4.20\r\ndb.user = billing\r\n! db.host = 10.1.4.99\r\n  # db.host=off\r\nhint=db.host:see wiki\r\n' > services/billing/billing.properties
printf '# Z\xfcrich, gepr\xfcft von Ren\xe9\n\tdb.host\t:\tzrh-db.internal\ndb-host=zrh-old.internal\noffice=Z\xfcrich' > "services/report builder/report.properties"
printf 'cache.ttl=30\ndb.host: pg-test.internal' > env/test.properties
printf 'cache.ttl=300\ndb.host=\ndb.host   =pg-a=b:c\n' > env/production.properties
printf 'cache.ttl=5\n' > env/local.properties
printf 'db.host=pg-old.internal\n' > env/production.properties.bak
printf 'db.host=@DB_HOST@\n' > env/template.properties.in
printf 'Set db.host\n\ndb.host=example\n' > README.md
chmod 600 env/production.properties
chmod 664 services/billing/billing.properties
