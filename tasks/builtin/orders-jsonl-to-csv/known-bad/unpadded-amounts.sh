#!/bin/bash
# Wrong on purpose: divides by 100, so amounts read 12.5 and 0 instead of 12.50 and 0.00.
set -euo pipefail
{
  echo 'order_id,placed_at,customer,sku,quantity,unit_price,line_total'
  jq -rs 'map(select(.status == "paid" or .status == "shipped")) | sort_by(.order_id)[] | . as $o | .items[]
    | [$o.order_id, $o.placed_at[:10], $o.customer.name // "", .sku, .quantity,
       .unit_price_cents / 100, .quantity * .unit_price_cents / 100] | @csv' /app/orders.jsonl
} > /app/lines.csv
