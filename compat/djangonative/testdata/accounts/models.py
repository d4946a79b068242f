"""A user with another primary key, other columns, and flags that are no columns."""

from __future__ import annotations

import uuid

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models


class Member(AbstractBaseUser):
    """Active is what AbstractBaseUser says, superuser nobody is."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, db_column="Member id")
    email = models.EmailField(unique=True, db_column="e-mail")
    is_staff = models.BooleanField(default=False, db_column="order")
    is_superuser = False

    objects = BaseUserManager()
    USERNAME_FIELD = "email"

    class Meta:
        """The table's name needs quotes."""

        db_table = "the members"
