"""Mandatory messages without confirms: what no queue takes comes back to a callback."""

from support import connect, equal, run, unique_exchange, unique_queue


def main():
    connection = connect()
    channel = connection.channel()
    came_back = []
    channel.add_on_return_callback(lambda _channel, method, properties, body: came_back.append((method, body)))
    queue, missing = unique_queue("returns"), unique_queue("returns-missing")
    alternate, exchange = unique_exchange("returns-alternate"), unique_exchange("returns")
    channel.queue_declare(queue)
    channel.exchange_declare(alternate, "fanout")
    channel.exchange_declare(exchange, "direct", arguments={"alternate-exchange": alternate})

    channel.basic_publish("", missing, b"1", mandatory=True)
    channel.basic_publish("", queue, b"2", mandatory=True)
    channel.basic_publish("", missing, b"3")
    channel.basic_publish(exchange, "unknown", b"4", mandatory=True)
    channel.queue_bind(queue, alternate)
    channel.basic_publish(exchange, "unknown", b"5", mandatory=True)
    channel.queue_declare(queue, passive=True)  # All returns have come when this is answered.
    connection.process_data_events()
    equal([body for _, body in came_back], [b"1", b"4"])
    for method, _ in came_back:
        equal((method.reply_code, method.reply_text), (312, "NO_ROUTE"))
    equal([method.routing_key for method, _ in came_back], [missing, "unknown"])
    connection.close()


run(main)
