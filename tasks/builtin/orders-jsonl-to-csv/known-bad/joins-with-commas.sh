#!/bin/bash
# Wrong on purpose: joins the fields with commas and never quotes.
set -euo pipefail
python3 - <<'PY'
import json

orders = [json.loads(line) for line in open("/app/orders.jsonl", encoding="utf-8")]
with open("/app/lines.csv", "w", encoding="utf-8") as out:
    print("order_id,placed_at,customer,sku,quantity,unit_price,line_total", file=out)
    for order in sorted(orders, key=lambda o: o["order_id"]):
        if order["status"] in ("paid", "shipped"):
            name = (order.get("customer") or {}).get("name") or ""
            for item in order["items"]:
                cents = item["unit_price_cents"]
                row = [order["order_id"], order["placed_at"][:10], name, item["sku"], item["quantity"],
                       f"{cents / 100:.2f}", f"{item['quantity'] * cents / 100:.2f}"]
                print(",".join(map(str, row)), file=out)
PY
