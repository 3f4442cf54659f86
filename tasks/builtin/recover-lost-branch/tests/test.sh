#!/bin/bash
# The reward is 1 when every test passes, else 0.
if python3 -I -S /tests/test_outputs.py; then echo 1; else echo 0; fi > /logs/verifier/reward.txt
