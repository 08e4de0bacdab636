"""Knowledge from what is written: files become concepts, relations and discussions."""

from polyplane.domains.agents.learning.course import LearnReport as LearnReport, learn as learn
