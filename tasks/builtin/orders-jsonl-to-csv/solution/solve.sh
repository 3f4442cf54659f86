#!/bin/bash
# jq's @csv does the quoting; amounts are built from whole cents.
set -euo pipefail
{
  echo 'order_id,placed_at,customer,sku,quantity,unit_price,line_total'
  jq -rs '
    def money:
      (if . < 0 then "-" else "" end) as $sign
      | fabs
      | $sign + "\((. / 100) | floor)." + ("0\(. % 100)"[-2:]);
    map(select(.status == "paid" or .status == "shipped"))
    | sort_by(.order_id)[]
    | . as $order
    | .items[]
    | [$order.order_id, $order.placed_at[:10], $order.customer.name // "", .sku, .quantity,
       (.unit_price_cents | money), (.quantity * .unit_price_cents | money)]
    | @csv' /app/orders.jsonl
} > /app/lines.csv
