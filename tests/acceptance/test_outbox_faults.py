"""The way from outbox to Kafka while its parts are killed."""

import random
import threading
import time
from collections import Counter

import psycopg
from outboxes import database, headers, records

SAVE = "SELECT outbox_save(%s, %s, 'a.B', %s)"


class Writer(threading.Thread):
    """Saves events until told to stop, a fifth of its transactions in vain; remembers the ids of both."""

    def __init__(self, url, topic):
        super().__init__()
        self.url, self.topic = url, topic
        self.ended = threading.Event()
        self.saved, self.rolled_back = set(), set()

    def run(self):
        chance = random.Random(7)
        with psycopg.connect(self.url) as connection:
            while not self.ended.wait(0.002):
                rows = [
                    connection.execute(SAVE, (self.topic, "k", b"x")).fetchone() for _ in range(chance.randint(1, 4))
                ]
                if chance.random() < 0.2:
                    connection.rollback()
                    self.rolled_back |= {str(row[0]) for row in rows}
                else:
                    connection.commit()
                    self.saved |= {str(row[0]) for row in rows}

    def wait_for(self, count):
        while len(self.saved) < count and self.is_alive():
            time.sleep(0.01)


def test_every_committed_event_arrives_exactly_once_though_connect_is_killed_while_rows_are_written(stack):
    with database(stack) as outbox:
        outbox.apply()
        writer = Writer(outbox.url, f"killed_{outbox.name}")
        writer.start()
        try:
            writer.wait_for(200)
            records(stack, writer.topic, 100)
            stack.kill("connect")
            writer.wait_for(len(writer.saved) + 200)
            stack.wait_ready()
            writer.wait_for(len(writer.saved) + 200)
        finally:
            writer.ended.set()
            writer.join()
        # All have one key, and so one partition: a second copy of any would arrive before this one.
        with psycopg.connect(outbox.url) as connection:
            writer.saved.add(str(connection.execute(SAVE, (writer.topic, "k", b"last")).fetchone()[0]))
        arrived = Counter(headers(record)["ce_id"] for record in records(stack, writer.topic, len(writer.saved)))
        assert arrived == Counter(dict.fromkeys(writer.saved, 1))
        assert writer.rolled_back
