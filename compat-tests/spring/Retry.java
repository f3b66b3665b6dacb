import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.springframework.amqp.AmqpRejectAndDontRequeueException;
import org.springframework.amqp.core.Message;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.core.QueueBuilder;
import org.springframework.amqp.rabbit.config.RetryInterceptorBuilder;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory;
import org.springframework.amqp.rabbit.core.RabbitAdmin;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.listener.SimpleMessageListenerContainer;
import org.springframework.amqp.rabbit.retry.RejectAndDontRequeueRecoverer;
import org.springframework.amqp.rabbit.retry.RepublishMessageRecoverer;

/** A listener that fails: retries in place and then a dead letter, republishing, and retries by way of a queue that expires. */
final class Retry {
    public static void main(String[] args) {
        Support.run(() -> {
            CachingConnectionFactory connections = Support.connections();
            inPlace(connections);
            republished(connections);
            byExpiry(connections);
        });
    }

    private static void inPlace(CachingConnectionFactory connections) throws Exception {
        RabbitAdmin admin = new RabbitAdmin(connections);
        String dead = Support.uniqueQueue("dead");
        String work = Support.uniqueQueue("work");
        admin.declareQueue(new Queue(dead, false));
        admin.declareQueue(QueueBuilder.nonDurable(work).deadLetterExchange("").deadLetterRoutingKey(dead).build());
        BlockingQueue<String> tries = new LinkedBlockingQueue<>();
        SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(connections);
        container.setQueueNames(work);
        container.setAdviceChain(RetryInterceptorBuilder.stateless().maxAttempts(3).backOffOptions(20, 2, 100)
            .recoverer(new RejectAndDontRequeueRecoverer()).build());
        container.setMessageListener(message -> {
            tries.add(new String(message.getBody()));
            throw new IllegalStateException("as it should be");
        });
        container.start();
        Support.closeLater(container::stop);
        RabbitTemplate template = new RabbitTemplate(connections);
        template.convertAndSend(work, "poison");
        Message letter = template.receive(dead, Support.PATIENCE.toMillis());
        Support.equal(new String(letter.getBody()), "poison", "the dead letter");
        Support.equal(tries.size(), 3, "tries");
        Map<String, ?> death = ((List<Map<String, ?>>) (List<?>) letter.getMessageProperties().getXDeathHeader()).get(0);
        Support.equal(death.get("reason"), "rejected", "why");
        Support.equal(death.get("queue"), work, "where");
        Support.equal(death.get("count"), 1L, "how often");
        container.stop();
    }

    private static void republished(CachingConnectionFactory connections) throws Exception {
        RabbitAdmin admin = new RabbitAdmin(connections);
        String errors = Support.uniqueQueue("errors");
        String work = Support.uniqueQueue("republished");
        admin.declareQueue(new Queue(errors, false));
        admin.declareQueue(new Queue(work, false));
        RabbitTemplate template = new RabbitTemplate(connections);
        SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(connections);
        container.setQueueNames(work);
        container.setAdviceChain(RetryInterceptorBuilder.stateless().maxAttempts(2).backOffOptions(20, 1, 20)
            .recoverer(new RepublishMessageRecoverer(template, "", errors)).build());
        container.setMessageListener(message -> {
            throw new IllegalStateException("as it should be");
        });
        container.start();
        Support.closeLater(container::stop);
        template.convertAndSend(work, "poison");
        Message letter = template.receive(errors, Support.PATIENCE.toMillis());
        Support.equal(letter.getMessageProperties().getHeader("x-original-routingKey"), work, "the key");
        String trace = String.valueOf((Object) letter.getMessageProperties().getHeader("x-exception-stacktrace"));
        Support.equal(trace.contains("as it should be"), true, trace);
        container.stop();
    }

    private static void byExpiry(CachingConnectionFactory connections) throws Exception {
        RabbitAdmin admin = new RabbitAdmin(connections);
        String work = Support.uniqueQueue("delayed");
        String wait = Support.uniqueQueue("wait");
        admin.declareQueue(QueueBuilder.nonDurable(work).deadLetterExchange("").deadLetterRoutingKey(wait).build());
        admin.declareQueue(QueueBuilder.nonDurable(wait).ttl(100).deadLetterExchange("").deadLetterRoutingKey(work).build());
        BlockingQueue<Long> counts = new LinkedBlockingQueue<>();
        SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(connections);
        container.setQueueNames(work);
        container.setErrorHandler(new org.springframework.amqp.rabbit.listener.ConditionalRejectingErrorHandler());
        container.setMessageListener(message -> {
            List<Map<String, ?>> deaths = message.getMessageProperties().getXDeathHeader();
            long count = deaths == null ? 0 : (Long) deaths.get(0).get("count");
            counts.add(count);
            if (count < 3) {
                throw new AmqpRejectAndDontRequeueException("as it should be");
            }
        });
        container.start();
        Support.closeLater(container::stop);
        new RabbitTemplate(connections).convertAndSend(work, "later");
        for (long expected = 0; expected <= 3; expected++) {
            Support.equal(Support.next(counts, "try " + expected), expected, "deaths before a try");
        }
        container.stop();
    }
}
