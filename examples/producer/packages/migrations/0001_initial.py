from typing import Any, ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies: ClassVar[list[tuple[str, str]]] = []
    operations: ClassVar[list[Any]] = [
        migrations.CreateModel(
            name="Package",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("created", "Created"),
                            ("in_transit", "In Transit"),
                            ("delayed", "Delayed"),
                            ("delivered", "Delivered"),
                        ],
                        default="created",
                        max_length=16,
                    ),
                ),
                ("sender", models.CharField(max_length=40)),
                ("recipient", models.CharField(max_length=100)),
                ("street", models.CharField(max_length=100)),
                ("postal_code", models.CharField(max_length=16)),
                ("country", models.CharField(max_length=2)),
                ("phone", models.CharField(max_length=32)),
                ("weight_grams", models.PositiveIntegerField()),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={"db_table": "packages"},
        ),
        migrations.CreateModel(
            name="Route",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("driver", models.CharField(max_length=40)),
                ("departs_at", models.DateTimeField()),
                ("packages", models.ManyToManyField(to="packages.package")),
            ],
            options={"db_table": "routes"},
        ),
    ]
