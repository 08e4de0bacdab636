"""What is true of a person besides their documents: tokens, tasks, messages, calendar, money."""
