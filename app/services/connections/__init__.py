"""Operations of an application on its connections at Nango."""
