#!/bin/sh
cp widget /usr/local/bin/
