import csv
import json
import unittest

# A copy of the input, so that the answer does not depend on what became of /app/orders.jsonl.
ORDERS = r'''{"order_id":1009,"status":"paid","placed_at":"2024-05-03T09:12:44+02:00","customer":{"id":7,"name":"Miller, Ada"},"items":[{"sku":"CH-100","quantity":2,"unit_price_cents":1250},{"sku":"CH-200","quantity":1,"unit_price_cents":1999}]}
{"order_id":998,"status":"shipped","placed_at":"2024-05-01T23:45:00-07:00","customer":{"id":9,"name":"José \"Pepe\" Núñez"},"items":[{"sku":"TB-1","quantity":1,"unit_price_cents":45000}]}
{"order_id":1010,"status":"cancelled","placed_at":"2024-05-03T10:00:00+02:00","customer":{"id":7,"name":"Miller, Ada"},"items":[{"sku":"CH-100","quantity":4,"unit_price_cents":1250}]}
{"order_id":10002,"status":"paid","placed_at":"2024-06-30T00:10:00+02:00","customer":null,"items":[{"sku":"LM-7","quantity":3,"unit_price_cents":705}]}
{"order_id":1011,"status":"pending","placed_at":"2024-05-03T11:30:00+02:00","customer":{"id":12,"name":"Ng Wei"},"items":[{"sku":"LM-7","quantity":1,"unit_price_cents":705}]}
{"order_id":1012,"status":"shipped","placed_at":"2024-05-04T08:00:00+02:00","customer":{"id":13,"name":null},"items":[{"sku":"ZZ-9","quantity":10,"unit_price_cents":5},{"sku":"AA-1","quantity":1,"unit_price_cents":100},{"sku":"REFUND","quantity":1,"unit_price_cents":-5}]}
{"order_id":1013,"status":"paid","placed_at":"2024-05-04T08:30:00+02:00","customer":{"id":14,"name":"Zoë & Sons"},"items":[]}
{"order_id":1014,"status":"paid","placed_at":"2024-05-05T12:00:00+02:00","customer":{"id":15,"name":"Acme Corp.\nPurchasing"},"items":[{"sku":"CH-100","quantity":12,"unit_price_cents":1190},{"sku":"TB-1 \"XL\", oak","quantity":1,"unit_price_cents":129900}]}
{"order_id":1015,"status":"refunded","placed_at":"2024-05-05T12:05:00+02:00","customer":{"id":15,"name":"Acme Corp."},"items":[{"sku":"REFUND","quantity":1,"unit_price_cents":-129900}]}
{"order_id":1016,"status":"shipped","placed_at":"2024-05-06T07:15:00+02:00","customer":{"id":16},"items":[{"sku":"LM-7","quantity":100,"unit_price_cents":699}]}
{"order_id":1017,"status":"paid","placed_at":"2024-05-06T07:20:00+02:00","items":[{"sku":"CH-200","quantity":3,"unit_price_cents":1999},{"sku":"REFUND","quantity":2,"unit_price_cents":-1250}]}
{"order_id":1001,"status":"paid","placed_at":"2024-05-02T16:40:10+02:00","customer":{"id":17,"name":"Søren Kierkegaard"},"items":[{"sku":"GIFT","quantity":1,"unit_price_cents":0},{"sku":"CH-100","quantity":1,"unit_price_cents":1250}]}
{"order_id":1018,"status":"Paid?","placed_at":"2024-05-06T07:25:00+02:00","customer":{"id":18,"name":"Test"},"items":[{"sku":"TEST","quantity":1,"unit_price_cents":1}]}
{"order_id":87,"status":"shipped","placed_at":"2023-12-31T23:59:59+01:00","customer":{"id":1,"name":"O'Brien, Sean; Ltd"},"items":[{"sku":"TB-1","quantity":2,"unit_price_cents":44950}]}
'''
HEADER = ["order_id", "placed_at", "customer", "sku", "quantity", "unit_price", "line_total"]


def money(cents):
    units, rest = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}{units}.{rest:02d}"


def expected():
    rows = []
    for order in sorted(map(json.loads, ORDERS.splitlines()), key=lambda order: order["order_id"]):
        if order["status"] not in ("paid", "shipped"):
            continue
        name = (order.get("customer") or {}).get("name") or ""
        for item in order["items"]:
            cents = item["unit_price_cents"]
            rows.append([str(order["order_id"]), order["placed_at"][:10], name, item["sku"], str(item["quantity"]),
                         money(cents), money(cents * item["quantity"])])
    return rows


def read_bytes():
    with open("/app/lines.csv", "rb") as f:
        return f.read()


def read_rows():
    return list(csv.reader(read_bytes().decode("utf-8").splitlines(keepends=True), strict=True))


class OrdersToCsv(unittest.TestCase):
    maxDiff = None

    def test_header_and_line_ends(self):
        data = read_bytes()
        self.assertEqual(read_rows()[0], HEADER)
        self.assertNotIn(b"\r", data)
        self.assertTrue(data.endswith(b"\n") and not data.endswith(b"\n\n"), "the file must end in exactly one newline")

    def test_every_row_parses_into_seven_fields(self):
        for row in read_rows():
            self.assertEqual(len(row), 7, f"wrong number of fields: {row}")

    def test_the_right_order_lines_in_the_right_order(self):
        got = [[row[0], *row[3:5]] for row in read_rows()[1:]]
        self.assertEqual(got, [[row[0], *row[3:5]] for row in expected()])

    def test_dates_customers_and_amounts(self):
        self.assertEqual(read_rows()[1:], expected())

    def test_input_is_unchanged(self):
        with open("/app/orders.jsonl", encoding="utf-8", newline="") as f:
            self.assertEqual(f.read(), ORDERS)


if __name__ == "__main__":
    unittest.main(verbosity=2)
