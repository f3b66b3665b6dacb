import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.BuiltinExchangeType;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import java.util.List;
import java.util.Map;

/** Exchanges, queues and bindings: declared, found again, refused, deleted; routing of every type. */
final class Topology {
    public static void main(String[] args) {
        Support.run(() -> {
            try (Connection connection = Support.factory().newConnection(); Connection other = Support.factory().newConnection()) {
                Channel channel = connection.createChannel();
                routing(channel);
                exchanges(connection, channel);
                queues(connection, other, channel);
            }
        });
    }

    private static void routing(Channel channel) throws Exception {
        String a = Support.declare(channel, "routing-a", Map.of());
        String b = Support.declare(channel, "routing-b", Map.of());
        String topic = Support.uniqueExchange("topic");
        channel.exchangeDeclare(topic, BuiltinExchangeType.TOPIC);
        channel.queueBind(a, topic, "*.red.#");
        channel.queueBind(b, topic, "#");
        String headers = Support.uniqueExchange("headers");
        channel.exchangeDeclare(headers, BuiltinExchangeType.HEADERS);
        channel.queueBind(a, headers, "", Map.of("x-match", "all", "colour", "red", "size", 3));
        channel.queueBind(b, headers, "", Map.of("x-match", "any", "colour", "red", "size", 4));
        String fanout = Support.uniqueExchange("fanout");
        channel.exchangeDeclare(fanout, BuiltinExchangeType.FANOUT);
        channel.exchangeBind(topic, fanout, "");
        String alternate = Support.uniqueExchange("alternate");
        channel.exchangeDeclare(alternate, "direct", false, false, Map.of("alternate-exchange", fanout));

        channel.basicPublish(topic, "big.red.car.old", null, Support.octets("1"));
        channel.basicPublish(topic, "red", null, Support.octets("2"));
        channel.basicPublish(headers, "", Support.properties().headers(Map.of("colour", "red", "size", 3)).build(), Support.octets("3"));
        channel.basicPublish(headers, "", Support.properties().headers(Map.of("size", 4)).build(), Support.octets("4"));
        channel.basicPublish(fanout, "my.red", null, Support.octets("5"));
        channel.basicPublish(alternate, "no.binding", null, Support.octets("6"));
        channel.basicPublish("", a, Support.properties().headers(Map.of("CC", List.of(b))).build(), Support.octets("7"));
        Support.equal(Support.texts(new Support.Inbox(channel, a, true).take(4)), List.of("1", "3", "5", "7"), "the first queue");
        Support.equal(Support.texts(new Support.Inbox(channel, b, true).take(7)), List.of("1", "2", "3", "4", "5", "6", "7"), "the second");
        channel.exchangeUnbind(topic, fanout, "");
        channel.queueUnbind(b, topic, "#");
    }

    private static void exchanges(Connection connection, Channel channel) throws Exception {
        String name = Support.uniqueExchange("exchanges");
        channel.exchangeDeclare(name, "direct", true, false, Map.of());
        channel.exchangeDeclarePassive(name);
        Support.refused(connection, 406, "inequivalent arg 'type'", other -> other.exchangeDeclare(name, "fanout", true));
        Support.refused(connection, 404, "no exchange", other -> other.exchangeDeclarePassive(name + ".missing"));
        Support.refused(connection, 403, "amq.", other -> other.exchangeDeclare("amq.mine", "direct"));
        String queue = Support.declare(channel, "bound", Map.of());
        channel.queueBind(queue, name, "key");
        Support.refused(connection, 406, "in use", other -> other.exchangeDelete(name, true));
        channel.queueUnbind(queue, name, "key");
        channel.exchangeDelete(name, true);
        String internal = Support.uniqueExchange("internal");
        channel.exchangeDeclare(internal, "fanout", false, false, true, Map.of());
        Support.refused(connection, 403, "internal", other -> other.basicPublish(internal, "", null, new byte[0]));
    }

    private static void queues(Connection connection, Connection other, Channel channel) throws Exception {
        AMQP.Queue.DeclareOk named = channel.queueDeclare();
        Support.equal(named.getQueue().startsWith("amq.gen-"), true, named.getQueue());
        Support.refused(other, 405, "exclusive access", foreign -> foreign.queueDeclarePassive(named.getQueue()));
        String queue = Support.declare(channel, "queues", Map.of("x-max-length", 3, "x-overflow", "drop-head"));
        Support.refused(connection, 406, "x-max-length", another -> another.queueDeclare(queue, false, false, false, Map.of("x-max-length", 4)));
        Support.refused(connection, 404, "no queue", another -> another.queueDeclarePassive(queue + ".missing"));
        Support.publish(channel, queue, "1", "2", "3", "4", "5");
        Support.waitForReady(channel, queue, 3);
        Support.refused(connection, 406, "not empty", another -> another.queueDelete(queue, false, true));
        Support.equal(channel.queuePurge(queue).getMessageCount(), 3, "purged");
        Support.equal(channel.queueDelete(queue).getMessageCount(), 0, "deleted");
        for (String type : List.of("quorum", "stream")) {
            String typed = Support.uniqueQueue(type);
            channel.queueDeclare(typed, true, false, false, Map.of("x-queue-type", type));
            Support.equal(channel.queueDeclarePassive(typed).getConsumerCount(), 0, type);
        }
        channel.queueDeclareNoWait(Support.uniqueQueue("no-wait"), false, false, false, Map.of());
        channel.basicQos(0);
    }
}
