from sqlalchemy.orm import Mapped, mapped_column

from shop import db


class Order(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    article: Mapped[str] = mapped_column(unique=True)
    paid: Mapped[bool] = mapped_column(default=False)
