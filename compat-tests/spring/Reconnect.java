import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.springframework.amqp.AmqpException;
import org.springframework.amqp.core.AcknowledgeMode;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory.ConfirmType;
import org.springframework.amqp.rabbit.connection.CorrelationData;
import org.springframework.amqp.rabbit.core.RabbitAdmin;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.listener.AbstractMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.DirectMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.SimpleMessageListenerContainer;

/** The broker restarts: containers consume again, templates publish again, what was confirmed is still there. */
final class Reconnect {
    public static void main(String[] args) {
        Support.run(() -> {
            CachingConnectionFactory connections = Support.connections();
            connections.setPublisherConfirmType(ConfirmType.CORRELATED);
            RabbitAdmin admin = new RabbitAdmin(connections);
            RabbitTemplate template = new RabbitTemplate(connections);
            String kept = Support.uniqueQueue("kept");
            admin.declareQueue(new Queue(kept, true));
            confirmed(template, kept, "before");

            SimpleMessageListenerContainer simple = new SimpleMessageListenerContainer(connections);
            DirectMessageListenerContainer direct = new DirectMessageListenerContainer(connections);
            direct.setMonitorInterval(200);
            simple.setRecoveryInterval(200);
            direct.setRecoveryInterval(200);
            BlockingQueue<String> bySimple = listen(simple, admin, "simple");
            BlockingQueue<String> byDirect = listen(direct, admin, "direct");
            both(template, simple, direct, bySimple, byDirect, "one");
            if (!Support.restartBroker()) {
                return;
            }
            both(template, simple, direct, bySimple, byDirect, "two");
            confirmed(template, kept, "after");
            Support.equal(template.receiveAndConvert(kept, 10_000), "before", "the message of before");
            Support.equal(template.receiveAndConvert(kept, 10_000), "after", "the message of after");
            simple.stop();
            direct.stop();
        });
    }

    private static BlockingQueue<String> listen(AbstractMessageListenerContainer container, RabbitAdmin admin, String name) {
        Queue queue = new Queue(Support.uniqueQueue(name), true);
        admin.declareQueue(queue);
        BlockingQueue<String> came = new LinkedBlockingQueue<>();
        container.setQueues(queue);
        container.setAcknowledgeMode(AcknowledgeMode.AUTO);
        container.setMessageListener(message -> came.add(new String(message.getBody())));
        container.start();
        Support.closeLater(container::stop);
        return came;
    }

    private static void both(RabbitTemplate template, AbstractMessageListenerContainer simple, AbstractMessageListenerContainer direct,
        BlockingQueue<String> bySimple, BlockingQueue<String> byDirect, String body) throws Exception {
        confirmed(template, simple.getQueueNames()[0], body);
        confirmed(template, direct.getQueueNames()[0], body);
        Support.equal(Support.next(bySimple, "the simple container's " + body), body, "simple");
        Support.equal(Support.next(byDirect, "the direct container's " + body), body, "direct");
    }

    /** Publishes until it is confirmed: a connection that is just lost is found out by a failure. */
    private static void confirmed(RabbitTemplate template, String queue, String body) throws Exception {
        Support.waitUntil(body + " is confirmed", () -> {
            try {
                CorrelationData data = new CorrelationData();
                template.convertAndSend("", queue, body, data);
                return data.getFuture().get(10, TimeUnit.SECONDS).isAck();
            } catch (AmqpException lost) {
                return false;
            }
        });
    }
}
