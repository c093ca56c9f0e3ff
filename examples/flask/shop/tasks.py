"""What the workers do: plain functions, in an application context that resqued.conf.py makes."""

from shop import db
from shop.models import Order


def pay(number):
    order = db.session.get_one(Order, number)
    order.paid = True
    db.session.commit()
    return f"{order.article} is paid"
