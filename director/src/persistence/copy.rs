//! A copy of what is known of one template, to try out what would become of it.

use super::template::{Name, Template};
use super::templates::{TemplateId, Templates};
use crate::time::Tick;

/// A table of its own that does with one name what the table of all would do now.
#[derive(Debug)]
pub struct TemplateCopy {
    /// The table, with room for one more template if there is.
    pub templates: Templates,
    /// The template of that name as it is, be it over or not, with its numbers in the table of all and in the copy.
    pub known: Option<(Template, TemplateId, TemplateId)>,
}

impl TemplateCopy {
    /// The number in the copy of a template with this number in the table of all.
    pub fn translate(&self, id: TemplateId) -> TemplateId {
        match &self.known {
            Some((_, of_all, of_copy)) if *of_all == id => *of_copy,
            _ if id.is_some() => TemplateId::ELSEWHERE,
            _ => TemplateId::NONE,
        }
    }
}

impl Templates {
    /// A copy of what concerns this name, if any. For the control thread: the lock that is held meanwhile is that of one
    /// part, and an lcore may wait for it.
    pub fn copy(&self, name: Option<&Name<'_>>, now: Tick) -> TemplateCopy {
        let Some(name) = name else {
            return TemplateCopy { templates: Templates::new(0), known: None };
        };
        let (hash, number) = self.hash_of(name);
        let (known, freed) = {
            let shard = self.lock(number);
            let known = shard.peek(hash, name).map(|(at, template)| (at, *template));
            (known, shard.foresee_sweep(now, known.map(|(at, _)| at)))
        };
        let room = (self.capacity() + freed).saturating_sub(self.len());
        let templates = Templates::new(usize::from(known.is_some()) + room.min(1));
        let known = known
            .map(|(at, template)| (template, TemplateId::new(number, at), templates.adopt(name, template)));
        TemplateCopy { templates, known }
    }

    fn adopt(&self, name: &Name<'_>, template: Template) -> TemplateId {
        let (hash, number) = self.hash_of(name);
        let at = self.with(number, |shard| shard.insert(hash, template, name.call_id));
        TemplateId::new(number, at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::TemplateKey;
    use super::*;
    use crate::service::ServerId;
    use std::net::Ipv4Addr;

    fn name(n: u32) -> Name<'static> {
        let key = TemplateKey {
            client: Ipv4Addr::from(n).into(),
            virtual_address: Ipv4Addr::LOCALHOST.into(),
            virtual_port: 80,
            protocol: 6,
        };
        Name { key, call_id: &[] }
    }

    fn template(n: u32, now: Tick) -> Template {
        Template::new(name(n).key, (ServerId(n), (Ipv4Addr::LOCALHOST, 80).into()), 1000, now)
    }

    const ANY: fn(&Template) -> Option<ServerId> = |template| Some(template.server);

    /// Whatever there is: the copy says what the table says when it is asked afterwards, and was not changed by the copy.
    #[test]
    fn the_copy_does_what_the_table_does() {
        for (capacity, there, ended, later) in [
            (4, 0, false, 0),
            (2, 2, false, 0),
            (2, 2, true, 0),
            (2, 2, true, 1000),
            (3, 3, true, 1000),
            (1, 0, false, 5),
        ] {
            for asked in 0..4 {
                let (templates, now) = (Templates::new(capacity), Tick(0).after(later));
                for n in 0..there {
                    let (id, _) = templates.create(template(n, Tick(0)), &[], Tick(0), ANY).unwrap();
                    if ended {
                        templates.release(id, Tick(0));
                    }
                }
                let answers = |templates: &Templates| {
                    let joined = templates.join(&name(asked), now, ANY).map(|(_, server)| server);
                    let created = templates.create(template(asked, now), &[], now, ANY);
                    (joined, created.map(|(_, server)| server))
                };
                let copy = templates.copy(Some(&name(asked)), now);
                let before = templates.len();
                let foreseen = answers(&copy.templates);
                assert_eq!(templates.len(), before);
                assert_eq!(foreseen, answers(&templates), "{capacity} {there} {ended} {later} {asked}");
            }
        }
    }

    #[test]
    fn another_templates_number_leads_nowhere() {
        let templates = Templates::new(4);
        let (id, _) = templates.create(template(1, Tick(0)), &[], Tick(0), ANY).unwrap();
        let copy = templates.copy(Some(&name(1)), Tick(0));
        assert!(copy.translate(id).is_some() && !copy.translate(TemplateId::NONE).is_some());
        let elsewhere = copy.translate(TemplateId::new(63, 9));
        assert!(elsewhere.is_some());
        copy.templates.assure(elsewhere);
        copy.templates.release(elsewhere, Tick(0));
        assert_eq!(copy.templates.len(), 1);
    }
}
