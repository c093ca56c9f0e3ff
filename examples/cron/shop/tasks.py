"""What runs by the clock."""


def fetch_rates():
    print("rates: 1 EUR is 1.08 USD", flush=True)


def clean_baskets(hours):
    print(f"baskets: none is older than {hours} hours", flush=True)


def report(day="yesterday"):
    print(f"report: of {day}", flush=True)
