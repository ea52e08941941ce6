"""The local stack: Postgres, Kafka and Kafka Connect with Debezium on one machine, without Docker.

``control`` starts and ends it, ``supervisor`` owns the running parts, ``parts`` says what each part is, ``state`` tells
everyone else where it listens.
"""
