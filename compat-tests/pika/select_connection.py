"""The flows of the README with pika's SelectConnection: a state machine of callbacks instead of blocking calls."""

import pika

from support import URL, equal, run, unique_exchange, unique_queue

COUNT = 500


class OrderFlow:
    """Declares, publishes COUNT messages with confirms and a mandatory one that comes back, consumes, closes."""

    def __init__(self):
        self.exchange = unique_exchange("select")
        self.queue = unique_queue("select")
        self.confirmed = set()
        self.returned = []
        self.seen = []
        self.closed_by = None
        self.connection = pika.SelectConnection(
            pika.URLParameters(URL),
            on_open_callback=self.on_open,
            on_open_error_callback=self.on_open_error,
            on_close_callback=self.on_close,
        )

    def on_open_error(self, _connection, error):
        self.closed_by = error
        self.connection.ioloop.stop()

    def on_open(self, _connection):
        self.connection.channel(on_open_callback=self.on_channel)

    def on_channel(self, channel):
        self.channel = channel
        channel.exchange_declare(self.exchange, "topic", callback=self.on_exchange)

    def on_exchange(self, _frame):
        self.channel.queue_declare(self.queue, durable=True, callback=self.on_queue)

    def on_queue(self, frame):
        equal((frame.method.queue, frame.method.message_count), (self.queue, 0))
        self.channel.queue_bind(self.queue, self.exchange, "order.*", callback=self.on_bound)

    def on_bound(self, _frame):
        self.channel.add_on_return_callback(self.on_return)
        self.channel.confirm_delivery(self.on_confirm, callback=self.on_confirm_mode)

    def on_confirm_mode(self, _frame):
        persistent = pika.BasicProperties(delivery_mode=2)
        for number in range(1, COUNT + 1):
            self.channel.basic_publish(self.exchange, "order.created", str(number), persistent)
        self.channel.basic_publish(self.exchange, "invoice.created", "lost", persistent, mandatory=True)

    def on_return(self, _channel, method, _properties, body):
        equal(COUNT + 1 in self.confirmed, False, "a return precedes its confirm")
        self.returned.append((method.reply_code, method.routing_key, body))

    def on_confirm(self, frame):
        method = frame.method
        equal(isinstance(method, pika.spec.Basic.Ack), True, method)
        if method.multiple:
            self.confirmed.update(range(1, method.delivery_tag + 1))
        else:
            self.confirmed.add(method.delivery_tag)
        if self.confirmed == set(range(1, COUNT + 2)):
            self.channel.basic_qos(prefetch_count=10, callback=self.on_qos)

    def on_qos(self, _frame):
        self.channel.basic_consume(self.queue, self.on_message, consumer_tag="select")

    def on_message(self, channel, method, _properties, body):
        self.seen.append((int(body), method.redelivered))
        if len(self.seen) == 1:
            channel.basic_nack(method.delivery_tag, requeue=True)
            return
        channel.basic_ack(method.delivery_tag)
        if len(self.seen) == COUNT + 1:
            channel.basic_cancel("select", callback=self.on_cancelled)

    def on_cancelled(self, _frame):
        self.connection.close()

    def on_close(self, _connection, reason):
        self.closed_by = reason
        self.connection.ioloop.stop()


def main():
    flow = OrderFlow()
    flow.connection.ioloop.start()
    equal(isinstance(flow.closed_by, pika.exceptions.ConnectionClosedByClient), True, flow.closed_by)
    equal(flow.returned, [(312, "invoice.created", b"lost")])
    equal(flow.seen[0], (1, False))
    equal((1, True) in flow.seen, True, "what was put back came again")
    once = [number for number, redelivered in flow.seen if not redelivered]
    equal(once, list(range(1, COUNT + 1)), "the others came once, in order")


run(main)
