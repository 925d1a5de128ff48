"""The durable state of a department: instances, studies, jobs, results and deliveries; nothing acknowledged is lost."""
