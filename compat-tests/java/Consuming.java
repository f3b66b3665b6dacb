import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** Prefetch, acks in all forms, priorities of consumers and messages, cancellation, exclusive and single active consumers. */
final class Consuming {
    public static void main(String[] args) {
        Support.run(() -> {
            try (Connection connection = Support.factory().newConnection()) {
                acks(connection);
                globalPrefetch(connection);
                cancellation(connection);
                priorities(connection);
                exclusive(connection);
                polling(connection);
            }
        });
    }

    private static void acks(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        String queue = Support.declare(channel, "acks", Map.of());
        channel.basicQos(4);
        Support.Inbox inbox = new Support.Inbox(channel, queue, false);
        Support.publish(channel, queue, "1", "2", "3", "4", "5", "6", "7", "8", "9");
        List<Delivery> first = inbox.take(4);
        inbox.nothingMore();
        channel.basicAck(tag(first.get(1)), true);
        Support.equal(Support.texts(inbox.take(2)), List.of("5", "6"), "after a multiple ack");
        channel.basicNack(tag(first.get(2)), false, true);
        Delivery again = inbox.take(1).get(0);
        Support.equal(Support.text(again) + again.getEnvelope().isRedeliver(), "3true", "requeued");
        channel.basicReject(tag(first.get(3)), false);
        Support.equal(Support.texts(inbox.take(1)), List.of("7"), "after a reject");
        channel.basicNack(tag(again), true, false);
        Support.equal(Support.texts(inbox.take(2)), List.of("8", "9"), "after a multiple nack");
        channel.basicRecover(true);
        List<String> recovered = new ArrayList<>(Support.texts(inbox.take(3)));
        recovered.sort(null);
        Support.equal(recovered, List.of("7", "8", "9"), "recovered");
        channel.basicCancel(inbox.tag);
        Support.refused(connection, 406, "unknown delivery tag 99", other -> other.basicAck(99, false));
        channel.close();
        Channel after = connection.createChannel();
        Support.waitForReady(after, queue, 3);
        GetResponse got = after.basicGet(queue, true);
        Support.equal(new String(got.getBody()) + got.getEnvelope().isRedeliver(), "7true", "back after the channel is closed");
    }

    private static long tag(Delivery delivery) {
        return delivery.getEnvelope().getDeliveryTag();
    }

    private static void globalPrefetch(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        String queue = Support.declare(channel, "global", Map.of());
        channel.basicQos(3, true);
        Support.Inbox one = new Support.Inbox(channel, queue, false);
        Support.Inbox two = new Support.Inbox(channel, queue, false);
        Support.publish(channel, queue, "1", "2", "3", "4", "5", "6");
        Support.waitUntil("three are delivered", () -> one.came.size() + two.came.size() == 3);
        Thread.sleep(200);
        Support.equal(one.came.size() + two.came.size(), 3, "deliveries of both");
        channel.close();
    }

    private static void cancellation(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        String queue = Support.declare(channel, "cancelled", Map.of());
        Support.Inbox inbox = new Support.Inbox(channel, queue, true);
        channel.basicCancel(inbox.tag);
        Support.publish(channel, queue, "after the cancel");
        inbox.nothingMore();
        Support.Inbox orphan = new Support.Inbox(channel, queue, true);
        Support.equal(Support.texts(orphan.take(1)), List.of("after the cancel"), "the next consumer");
        connection.createChannel().queueDelete(queue);
        Support.equal(Support.next(orphan.cancelled, "basic.cancel"), orphan.tag, "cancelled with the queue");
        Support.equal(channel.isOpen(), true, "the channel is open");
    }

    private static void priorities(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        String queue = Support.declare(channel, "priorities", Map.of("x-max-priority", 10));
        for (int number = 0; number < 6; number++) {
            channel.basicPublish("", queue, Support.properties().priority(number % 3 * 4).build(), Support.octets("" + number));
        }
        Support.waitForReady(channel, queue, 6);
        Support.Inbox inbox = new Support.Inbox(channel, queue, true);
        Support.equal(Support.texts(inbox.take(6)), List.of("2", "5", "1", "4", "0", "3"), "by priority");
        channel.basicCancel(inbox.tag);
        Channel low = connection.createChannel();
        low.basicQos(1);
        channel.basicQos(2);
        Support.Inbox second = new Support.Inbox(low, queue, false, Map.of("x-priority", -1));
        Support.Inbox first = new Support.Inbox(channel, queue, false, Map.of("x-priority", 10));
        Support.publish(connection.createChannel(), queue, "a", "b", "c", "d");
        Support.equal(Support.texts(first.take(2)), List.of("a", "b"), "the consumer of higher priority");
        Support.equal(Support.texts(second.take(1)), List.of("c"), "the other one");
    }

    private static void exclusive(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        String queue = Support.declare(channel, "exclusive", Map.of());
        String tag = channel.basicConsume(queue, true, "mine", false, true, null, (consumer, delivery) -> {}, consumer -> {});
        Support.refused(connection, 403, "exclusive use", other -> other.basicConsume(queue, (consumer, delivery) -> {}, consumer -> {}));
        channel.basicCancel(tag);
        String single = Support.declare(channel, "single", Map.of("x-single-active-consumer", true));
        Channel next = connection.createChannel();
        Support.Inbox active = new Support.Inbox(channel, single, true);
        Support.Inbox waiting = new Support.Inbox(next, single, true);
        Support.publish(channel, single, "1", "2");
        Support.equal(Support.texts(active.take(2)), List.of("1", "2"), "the active consumer");
        channel.basicCancel(active.tag);
        Support.publish(channel, single, "3");
        Support.equal(Support.texts(waiting.take(1)), List.of("3"), "its successor");
    }

    private static void polling(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        String queue = Support.declare(channel, "polling", Map.of());
        Support.equal(channel.basicGet(queue, true), null, "an empty queue");
        Support.publish(channel, queue, "1", "2");
        GetResponse got = channel.basicGet(queue, false);
        Support.equal(new String(got.getBody()) + got.getMessageCount(), "11", "body and messages left");
        channel.basicAck(got.getEnvelope().getDeliveryTag(), false);
    }
}
