import django_rq
from django.core.management.base import BaseCommand
from django.db import transaction

from shop.models import Order
from shop.tasks import pay


class Command(BaseCommand):
    help = "Order an article. The job is enqueued when the order is in the database."

    def add_arguments(self, parser):
        parser.add_argument("article")

    def handle(self, article, **options):
        with transaction.atomic():
            order = Order.objects.create(article=article)
            transaction.on_commit(lambda: django_rq.enqueue(pay, order.pk))
        self.stdout.write(f"order {order.pk}")
