"""Operations of an application on its connections: credentials, tags, metadata, connect sessions, deletion."""
