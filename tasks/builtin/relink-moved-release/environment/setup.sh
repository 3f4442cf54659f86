#!/bin/bash
set -euo pipefail
old=/srv/www/site
mkdir -p /app/site && cd /app/site
mkdir -p releases/2024-06-03/public releases/2024-06-18/public/assets releases/2024-06-18/config shared/uploads "shared/press kit" shared/log bin
echo '<h1>June 3</h1>' > releases/2024-06-03/public/index.html
echo '<h1>June 18</h1>' > releases/2024-06-18/public/index.html
echo 'body { margin: 0 }' > releases/2024-06-18/public/assets/site.css
echo 'workers = 4' > shared/app.conf
echo 'logo v2' > "shared/press kit/logo 2024.svg"
echo 'upload 1' > shared/uploads/photo-1.txt
echo 'started' > shared/log/app.log
printf '#!/bin/sh\necho deploy\n' > bin/deploy && chmod 755 bin/deploy

# Absolute links below the old place.
ln -s $old/releases/2024-06-18 current
ln -s $old/releases/2024-06-03 previous
ln -s $old/shared/app.conf releases/2024-06-18/config/app.conf
ln -s $old/shared/uploads releases/2024-06-18/public/uploads
ln -s $old/shared/uploads/ releases/2024-06-03/public/uploads
ln -s "$old/shared/press kit/logo 2024.svg" "releases/2024-06-18/public/assets/logo 2024.svg"
ln -s $old/shared/log releases/2024-06-18/log
ln -s $old bin/root
ln -s $old/current/public "shared/press kit/live page"
# Pruned targets.
ln -s $old/releases/2024-05-02 releases/rollback
ln -s $old/shared/cache.db releases/2024-06-03/cache.db
# Links that stay as they are.
ln -s ../shared/log/app.log bin/app.log
ln -s ../../missing/theme.css releases/2024-06-03/public/theme.css
ln -s /srv/www/site-backup/2024-06-01.tar backup.tar
ln -s /usr/bin/python3 bin/python
ln -s /opt/legacy/srv/www/site/old.conf shared/legacy.conf
