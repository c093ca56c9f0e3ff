"""What the workers do."""

from django.db import transaction

from shop.models import Order


def pay(number):
    """Mark an order as paid, and tell the customer when that is on disk."""
    with transaction.atomic():
        order = Order.objects.select_for_update().get(pk=number)
        order.paid = True
        order.save()
        import django_rq

        transaction.on_commit(lambda: django_rq.get_queue("mails").enqueue(mail, number))


def mail(number):
    return f"order {number} is paid: {Order.objects.get(pk=number).paid}"
