import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.RpcClient;
import com.rabbitmq.client.RpcClientParams;
import com.rabbitmq.client.RpcServer;
import java.math.BigDecimal;
import java.util.Arrays;
import java.util.Date;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/** Bodies large and empty, every property, headers of every type, dead letters, expiry, requests and replies. */
final class Messages {
    private static final int LARGE = 64 << 20;

    public static void main(String[] args) {
        Support.run(() -> {
            try (Connection connection = Support.factory().newConnection()) {
                Channel channel = connection.createChannel();
                bodies(channel);
                properties(channel);
                deadLetters(channel);
                expiry(channel);
                requests(connection);
            }
        });
    }

    private static void bodies(Channel channel) throws Exception {
        String queue = Support.declare(channel, "bodies", Map.of());
        Support.Inbox inbox = new Support.Inbox(channel, queue, true);
        byte[] large = new byte[LARGE];
        new Random(1).nextBytes(large);
        for (byte[] body : new byte[][] {new byte[0], {42}, large}) {
            channel.basicPublish("", queue, null, body);
            byte[] came = inbox.take(1).get(0).getBody();
            Support.equal(Arrays.equals(came, body), true, "a body of " + body.length + " octets, of which came " + came.length);
        }
    }

    private static void properties(Channel channel) throws Exception {
        String queue = Support.declare(channel, "properties", Map.of());
        Map<String, Object> headers = new HashMap<>();
        headers.put("byte", (byte) -3);
        headers.put("short", (short) -300);
        headers.put("int", -70_000);
        headers.put("long", 1L << 40);
        headers.put("float", 1.5f);
        headers.put("double", -0.1);
        headers.put("true", true);
        headers.put("false", false);
        headers.put("null", null);
        headers.put("decimal", new BigDecimal("12.345"));
        headers.put("date", new Date(1_700_000_000_000L));
        headers.put("octets", new byte[] {0, 1, (byte) 255});
        AMQP.BasicProperties sent = new AMQP.BasicProperties("text/plain", "gzip", headers, 2, 7, "correlation", "reply", "60000000",
            "message", new Date(1_700_000_001_000L), "kind", "guest", "application", "cluster");
        channel.basicPublish("", queue, sent, Support.octets("x"));
        GetResponse got = channel.basicGet(queue, true);
        AMQP.BasicProperties came = got.getProps();
        Map<String, Object> back = new HashMap<>(came.getHeaders());
        Support.equal(Arrays.equals((byte[]) back.remove("octets"), (byte[]) headers.remove("octets")), true, "octets");
        Support.equal(back, headers, "headers");
        Support.equal(came.builder().headers(null).build(), sent.builder().headers(null).build(), "properties");

        Map<String, Object> nested = new LinkedHashMap<>();
        nested.put("list", List.of(1, true, 2L));
        nested.put("table", Map.of("deeper", Map.of("deepest", 1)));
        nested.put("text", "ünïcödé");
        channel.basicPublish("", queue, Support.properties().headers(nested).build(), Support.octets("x"));
        Map<String, Object> nestedBack = channel.basicGet(queue, true).getProps().getHeaders();
        Support.equal(nestedBack.get("list"), nested.get("list"), "a list");
        Support.equal(nestedBack.get("table"), nested.get("table"), "tables in a table");
        Support.equal(nestedBack.get("text").toString(), nested.get("text"), "a text");
    }

    private static void deadLetters(Channel channel) throws Exception {
        String dead = Support.declare(channel, "dead", Map.of());
        Map<String, Object> arguments = new HashMap<>(Map.of("x-dead-letter-exchange", "", "x-dead-letter-routing-key", dead));
        String rejecting = Support.declare(channel, "rejecting", arguments);
        Support.publish(channel, rejecting, "rejected");
        channel.basicReject(channel.basicGet(rejecting, false).getEnvelope().getDeliveryTag(), false);
        Support.Inbox letters = new Support.Inbox(channel, dead, true);
        died(letters, "rejected", rejecting, "rejected");
        arguments.put("x-message-ttl", 50);
        String expiring = Support.declare(channel, "expiring", arguments);
        Support.publish(channel, expiring, "expired");
        died(letters, "expired", expiring, "expired");
        arguments.remove("x-message-ttl");
        arguments.put("x-max-length", 1);
        String short_ = Support.declare(channel, "short", arguments);
        Support.publish(channel, short_, "too many", "newer");
        died(letters, "too many", short_, "maxlen");
    }

    private static void died(Support.Inbox letters, String body, String queue, String reason) throws Exception {
        Delivery letter = letters.take(1).get(0);
        Support.equal(Support.text(letter), body, "the dead letter");
        Map<?, ?> death = (Map<?, ?>) ((List<?>) letter.getProperties().getHeaders().get("x-death")).get(0);
        Support.equal(death.get("reason").toString(), reason, "why");
        Support.equal(death.get("queue").toString(), queue, "where");
        Support.equal(death.get("count"), 1L, "how often");
        Support.equal(letter.getProperties().getHeaders().get("x-first-death-reason").toString(), reason, "why at first");
    }

    private static void expiry(Channel channel) throws Exception {
        String queue = Support.declare(channel, "ttl", Map.of("x-expires", 60_000));
        channel.basicPublish("", queue, Support.properties().expiration("50").build(), Support.octets("short"));
        channel.basicPublish("", queue, Support.properties().expiration("60000").build(), Support.octets("long"));
        Thread.sleep(150);
        Support.equal(new String(channel.basicGet(queue, true).getBody()), "long", "what lives longer");
        Support.equal(channel.basicGet(queue, true), null, "what has expired");
        // Whoever asks for the queue keeps it alive.
        String brief = Support.declare(channel, "brief", Map.of("x-expires", 100));
        Thread.sleep(1_000);
        Support.refused(channel.getConnection(), 404, "no queue", other -> other.queueDeclarePassive(brief));
    }

    private static void requests(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        String queue = Support.declare(channel, "requests", Map.of());
        RpcServer server = new RpcServer(channel, queue) {
            @Override
            public byte[] handleCall(Delivery request, AMQP.BasicProperties reply) {
                return Support.octets(Support.text(request).toUpperCase());
            }
        };
        Thread serving = new Thread(() -> {
            try {
                server.mainloop();
            } catch (Exception ended) {
                System.out.println("the server ends: " + ended);
            }
        });
        serving.start();
        RpcClient client = new RpcClient(new RpcClientParams().channel(connection.createChannel()).exchange("").routingKey(queue)
            .timeout((int) Support.PATIENCE_MS));
        for (int number = 0; number < 50; number++) {
            Support.equal(client.stringCall("request " + number), "REQUEST " + number, "a reply");
        }
        client.close();
        server.terminateMainloop();
    }
}
