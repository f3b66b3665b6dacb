import com.rabbitmq.client.AlreadyClosedException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.Recoverable;
import com.rabbitmq.client.RecoveryListener;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/** The broker restarts: connection, channels, topology and consumers come back by themselves, and so do durable messages. */
final class Recovery {
    public static void main(String[] args) {
        Support.run(() -> {
            ConnectionFactory factory = Support.factory();
            factory.setNetworkRecoveryInterval(200);
            factory.setAutomaticRecoveryEnabled(true);
            factory.setTopologyRecoveryEnabled(true);
            try (Connection connection = factory.newConnection()) {
                BlockingQueue<String> recovered = new LinkedBlockingQueue<>();
                ((Recoverable) connection).addRecoveryListener(new RecoveryListener() {
                    @Override
                    public void handleRecovery(Recoverable recoverable) {
                        recovered.add("recovered");
                    }

                    @Override
                    public void handleRecoveryStarted(Recoverable recoverable) {
                    }
                });
                Channel channel = connection.createChannel();
                Channel confirming = connection.createChannel();
                confirming.confirmSelect();
                String durable = channel.queueDeclare(Support.uniqueQueue("durable"), true, false, false, Map.of()).getQueue();
                String exchange = Support.uniqueExchange("transient");
                channel.exchangeDeclare(exchange, "topic");
                String named = channel.queueDeclare().getQueue();
                channel.queueBind(named, exchange, "key.#");
                channel.basicQos(5);
                Support.Inbox inbox = new Support.Inbox(channel, named, true);
                confirming.basicPublish("", durable, MessageProperties.PERSISTENT_BASIC, Support.octets("kept"));
                confirming.waitForConfirmsOrDie(Support.PATIENCE_MS);
                channel.basicPublish(exchange, "key.1", null, Support.octets("before"));
                Support.equal(Support.texts(inbox.take(1)), List.of("before"), "before the restart");
                if (!Support.restartBroker()) {
                    return;
                }
                Support.next(recovered, "the recovery");
                Support.waitUntil("it publishes again", () -> {
                    try {
                        confirming.basicPublish(exchange, "key.2", null, Support.octets("after"));
                        return confirming.waitForConfirms(Support.PATIENCE_MS);
                    } catch (AlreadyClosedException notYet) {
                        return false;
                    }
                });
                Support.equal(Support.texts(inbox.take(1)), List.of("after"), "after the restart");
                Support.equal(new String(channel.basicGet(durable, true).getBody()), "kept", "what was confirmed");
            }
        });
    }
}
