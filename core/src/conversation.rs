//! Conversations as datasets store them, in `meta.conversation` of a sample: turns of text in which images stand as marks.

use serde::{Deserialize, Serialize};

use crate::message::{Content, Message, Role};

/// Stands for an image in the text of a turn.
pub const MARK: &str = "<image>";

/// The key of a sample's `meta` that holds its conversation.
pub const CONVERSATION: &str = "conversation";

/// A turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who speaks; a call of a tool is the assistant's.
    pub role: Role,
    /// What is said; images stand as [`MARK`].
    pub content: String,
}

impl Turn {
    /// How many images it shows.
    pub fn images(&self) -> usize {
        self.content.matches(MARK).count()
    }

    /// The turn as a message, its marks as images.
    pub fn message(&self) -> Message {
        let mut content = Vec::new();
        for (nth, text) in self.content.split(MARK).enumerate() {
            content.extend((nth > 0).then_some(Content::Image));
            content.extend((!text.is_empty()).then(|| Content::text(text)));
        }
        Message { role: self.role, content }
    }
}

/// Where a conversation asks the question that its sample asks alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The turn: the user's first that shows an image, or the user's first where none does.
    pub turn: usize,
    /// How many of the conversation's images are shown by then; all, where no turn marks any.
    pub images: usize,
}

impl Asked {
    /// Finds the question of a conversation with so many images.
    ///
    /// # Errors
    /// Where there are marks, but not one for each image, the user says nothing, or no turn up to the question shows an image.
    pub fn of(turns: &[Turn], images: usize) -> Result<Self, String> {
        let marks: usize = turns.iter().map(Turn::images).sum();
        if marks != 0 && marks != images {
            return Err(format!("{marks} `{MARK}` for {images} images"));
        }
        let asks = |turn: &Turn| turn.role == Role::User;
        let shows = turns.iter().position(|turn| asks(turn) && turn.images() > 0);
        let turn = shows.or_else(|| turns.iter().position(asks)).ok_or("no turn of the user")?;
        let shown = if marks == 0 { images } else { turns[..=turn].iter().map(Turn::images).sum() };
        if shown == 0 && images > 0 {
            return Err("no turn of the user has an image".to_owned());
        }
        Ok(Self { turn, images: shown })
    }

    /// The turns that there is something to learn from: all up to the assistant's last.
    ///
    /// # Errors
    /// Where the assistant says nothing to the question, or shows an image.
    pub fn taught(self, turns: &[Turn]) -> Result<&[Turn], String> {
        let assistants = |turn: &&Turn| turn.role == Role::Assistant;
        if turns.iter().filter(assistants).any(|turn| turn.images() > 0) {
            return Err("an assistant's turn has an image".to_owned());
        }
        let last = turns.iter().rposition(|turn| assistants(&turn)).filter(|&last| last > self.turn);
        Ok(&turns[..=last.ok_or("no turn of the assistant after the question")?])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn turns(said: &[(Role, &str)]) -> Vec<Turn> {
        said.iter().map(|&(role, content)| Turn { role, content: content.into() }).collect()
    }

    #[test]
    fn the_question_is_where_the_user_first_shows_an_image() {
        use Role::{Assistant, System, Tool, User};
        let asked = |said: &[(Role, &str)], images| {
            Asked::of(&turns(said), images).map(|Asked { turn, images }| (turn, images))
        };
        let two = [(User, "<image>a<image>"), (Assistant, "b"), (User, "<image>c"), (Assistant, "d")];
        assert_eq!(asked(&two, 3), Ok((0, 2)));
        assert_eq!(asked(&[(User, "hello"), (Assistant, "hi"), (User, "<image>a"), (Tool, "<image>")], 2), Ok((2, 1)));
        assert_eq!(asked(&[(System, "like <image>"), (User, "<image>a"), (User, "<image>b")], 3), Ok((1, 2)));
        assert_eq!(asked(&[(System, "s"), (User, "a"), (Assistant, "b"), (User, "c")], 4), Ok((1, 4)));
        assert!(asked(&[(User, "a"), (Tool, "<image>")], 1).unwrap_err().contains("no turn of the user has an image"));
        assert!(asked(&two, 2).unwrap_err().contains("3 `<image>` for 2 images"));
        assert!(asked(&[(Assistant, "a")], 1).unwrap_err().contains("no turn of the user"));
    }

    #[test]
    fn what_follows_the_assistants_last_turn_is_not_taught() {
        use Role::{Assistant, User};
        let all = turns(&[(User, "a"), (Assistant, "b"), (User, "<image>")]);
        let asked = Asked { turn: 0, images: 1 };
        assert_eq!(asked.taught(&all).unwrap(), &all[..2]);
        assert!(asked.taught(&all[..1]).unwrap_err().contains("no turn of the assistant"));
        assert!(Asked { turn: 2, images: 1 }.taught(&all).unwrap_err().contains("after the question"));
        assert!(asked.taught(&turns(&[(User, "a"), (Assistant, "<image>")])).unwrap_err().contains("has an image"));
    }

    #[test]
    fn marks_are_images_of_the_message() {
        let message = turns(&[(Role::User, "<image>\n<image>a")])[0].message();
        assert_eq!(message.content, [Content::Image, Content::text("\n"), Content::Image, Content::text("a")]);
    }
}
